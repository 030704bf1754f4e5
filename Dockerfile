# ser-tf serve in a container; see docs/serving.md.
#   docker build -t ser_tf .
#   docker run --rm -p 127.0.0.1:8501:8501 ser_tf
FROM python:3.12-slim
WORKDIR /build
COPY setup.cfg pyproject.toml README.md LICENSE folds.yaml ./
COPY ser_tf ser_tf
RUN pip install --no-cache-dir ".[serve,m4a]"
RUN useradd --create-home server
USER server
WORKDIR /home/server
EXPOSE 8501
HEALTHCHECK --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:8501/')"]
ENTRYPOINT ["ser-tf", "serve", "--host", "0.0.0.0"]
