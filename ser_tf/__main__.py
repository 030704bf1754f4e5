"""`python -m ser_tf` is `ser-tf`."""

from ser_tf.cli import main

main()
