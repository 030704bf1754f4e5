// The page of ser-tf serve: sends recordings to /recognise and shows what comes back.
import { beginRecording } from "/microphone.js";

const COLOURS = ["--blue", "--red", "--green", "--purple", "--cyan", "--gold", "--grey", "--ink"];
const PEAKS_PER_SECOND = 20;
const PIXELS_PER_SECOND = 40; // of a long recording's strip
const TICK_SECONDS = 5;

const emotions = JSON.parse(document.body.dataset.emotions);
const find = (selector, place = document) => place.querySelector(selector);
const colourOf = (emotion) => `var(${COLOURS[Math.max(emotions.indexOf(emotion), 0) % COLOURS.length]})`;
const percent = (share) => `${Math.round(100 * share)} %`;
const nameOf = (answer) => (answer.abstained ? `unsure (${answer.emotion})` : answer.emotion);

function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60)];
  return hours ? `${hours}:${two(minutes % 60)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function say(text) {
  find("#status").textContent = text;
}

// A recording and its answer

class Card {
  constructor(blob, name) {
    this.name = name;
    this.article = find("#card").content.firstElementChild.cloneNode(true);
    this.audio = this.find("audio");
    this.slider = this.find("input");
    this.find("h2").textContent = name;
    this.article.setAttribute("aria-label", name);
    this.find(".remove").setAttribute("aria-label", `Remove ${name}`);
    this.find(".remove").onclick = () => this.remove();
    this.leaving = new AbortController();
    this.url = URL.createObjectURL(blob);
    this.audio.src = this.url;
    find("#results").prepend(this.article);
    this.ask(blob);
  }

  find(selector) {
    return find(selector, this.article);
  }

  remove() {
    this.leaving.abort();
    this.audio.pause();
    URL.revokeObjectURL(this.url);
    this.article.remove();
    find("#microphone").focus();
    say(`Removed ${this.name}.`);
  }

  async ask(blob) {
    say(`Listening to ${this.name}.`);
    try {
      const most = Number(document.body.dataset.uploadBytes);
      if (blob.size > most) throw new Error(`The file is larger than ${document.body.dataset.megabytes} MB.`);
      const answer = await this.fetch(blob);
      this.find(".working").remove();
      this.show(answer);
    } catch (error) {
      if (this.leaving.signal.aborted) return;
      const working = this.find(".working");
      working.className = "problem";
      working.setAttribute("role", "alert");
      working.textContent = error instanceof TypeError ? "The server cannot be reached." : error.message;
      find("#status").textContent = "";
    }
  }

  async fetch(blob) {
    for (;;) {
      const reply = await fetch(`/recognise?peaks=${PEAKS_PER_SECOND}`, {
        method: "POST",
        headers: { "Content-Type": "application/octet-stream" },
        body: blob,
        signal: this.leaving.signal,
      });
      const answer = await reply.json();
      if (reply.ok) return answer;
      if (reply.status !== 503) throw new Error(answer.error);
      this.find(".working").textContent = "The server is busy; waiting for a place\u2026";
      await new Promise((ready) => setTimeout(ready, 1000 * Number(reply.headers.get("Retry-After") ?? 2)));
    }
  }

  show(answer) {
    this.seconds = answer.seconds;
    this.isLong = "utterances" in answer;
    this.utterances = answer.utterances ?? [{ ...answer, start_seconds: 0, end_seconds: answer.seconds }];
    this.article.classList.toggle("long", this.isLong);
    this.find(".facts").textContent = this.isLong
      ? `${clock(this.seconds)}, ${this.utterances.length} utterances` +
        (answer.too_short.length ? `; ${answer.too_short.length} more are too short to name` : "")
      : `${this.seconds.toFixed(1)} s, ${answer.speech_seconds.toFixed(1)} s of it speech`;
    this.drawWave(answer.peaks);
    this.drawPlayer();
    this.find(".answer").hidden = this.utterances.length === 0;
    if (this.isLong) this.drawUtterances();
    this.current = null;
    this.move(0);
    if (this.isLong) {
      const counts = emotions.map((emotion) => this.utterances.filter((one) => one.emotion === emotion).length);
      const counted = emotions.filter((_, place) => counts[place]).map((emotion) => `${emotion} ${counts[emotions.indexOf(emotion)]}`);
      say(`${this.name}: ${this.utterances.length} utterances. ${counted.join(", ")}.`);
    } else {
      say(`${this.name}: ${nameOf(answer)}, ${percent(answer.probability)}.`);
    }
  }

  drawWave(peaks) {
    const strip = this.find(".strip");
    strip.hidden = false;
    const inner = this.find(".inner");
    if (this.isLong) inner.style.width = `${Math.ceil(this.seconds * PIXELS_PER_SECOND)}px`;
    this.find(".wave").setAttribute("viewBox", `0 -104 ${peaks.length} 208`);
    const lines = peaks.map((peak, place) => `M${place + 0.5} ${-Math.max(peak, 2)}V${Math.max(peak, 2)}`).join("");
    this.find(".ahead").setAttribute("d", lines);
    if (!this.isLong) this.find(".played").setAttribute("d", lines); // colouring half an hour for every frame is too slow
    strip.onclick = (event) => {
      const box = inner.getBoundingClientRect();
      this.seek((this.seconds * (event.clientX - box.left)) / box.width);
    };
    if (!this.isLong) return;
    const ticks = this.find(".ticks");
    for (let second = 0; second < this.seconds; second += TICK_SECONDS) {
      const tick = element("span", { textContent: clock(second) });
      tick.style.left = `${second * PIXELS_PER_SECOND}px`;
      ticks.append(tick);
    }
  }

  drawPlayer() {
    this.find(".player").hidden = false;
    this.slider.max = this.seconds;
    const play = this.find(".play");
    play.onclick = () => (this.audio.paused ? this.audio.play().catch(() => this.cannotPlay()) : this.audio.pause());
    this.slider.oninput = () => this.seek(Number(this.slider.value));
    if (this.audio.error) this.cannotPlay();
    this.audio.onerror = () => this.cannotPlay();
    this.audio.onplay = () => {
      for (const other of document.querySelectorAll("audio")) if (other !== this.audio) other.pause();
      this.showPlaying(true);
      this.follow();
    };
    this.audio.onpause = this.audio.onended = () => this.showPlaying(false);
    this.audio.onseeked = this.audio.ontimeupdate = () => this.move(this.audio.currentTime);
  }

  showPlaying(isPlaying) {
    this.find(".play").setAttribute("aria-label", isPlaying ? "Pause" : "Play");
    this.article.classList.toggle("playing", isPlaying);
  }

  cannotPlay() {
    this.find(".play").disabled = true;
    this.find(".unplayable").hidden = false;
  }

  follow() {
    if (this.audio.paused) return;
    this.move(this.audio.currentTime);
    requestAnimationFrame(() => this.follow());
  }

  seek(second) {
    const place = Math.min(Math.max(second, 0), this.seconds);
    if (!this.find(".play").disabled) this.audio.currentTime = place;
    this.move(place);
  }

  // Puts everything to a second of the recording.
  move(second) {
    const share = Math.min(second / this.seconds, 1);
    this.slider.value = second;
    this.slider.setAttribute("aria-valuetext", `${clock(second)} of ${clock(this.seconds)}`);
    this.find(".time").textContent = `${clock(second)} / ${clock(this.seconds)}`;
    this.find(".head").style.left = `${100 * share}%`;
    this.find(".played").style.clipPath = `inset(0 ${100 * (1 - share)}% 0 0)`;
    if (this.isLong) {
      const strip = this.find(".strip");
      strip.scrollLeft = share * this.find(".inner").offsetWidth - strip.clientWidth / 2;
    }
    const begun = this.utterances.findLastIndex((one) => one.start_seconds <= second + 0.005);
    this.highlight(Math.max(begun, 0));
  }

  highlight(place) {
    if (place === this.current || !this.utterances.length) return;
    this.current = place;
    const utterance = this.utterances[place];
    this.find(".answer").classList.toggle("abstained", utterance.abstained === true);
    this.find(".answer").style.setProperty("--c", colourOf(utterance.emotion));
    this.find(".when").textContent = this.isLong
      ? `${clock(utterance.start_seconds)} to ${clock(utterance.end_seconds)}`
      : "";
    this.find(".verdict strong").textContent = nameOf(utterance);
    this.find(".share").textContent = percent(utterance.probability);
    const rows = Object.entries(utterance.probabilities).map(([emotion, share]) => {
      const bar = element("i");
      bar.style.width = `${100 * share}%`;
      const row = element(
        "div",
        {},
        element("dt", { textContent: emotion }),
        element("dd", {}, element("span", { className: "bar" }, bar), element("span", { className: "number", textContent: percent(share) })),
      );
      row.style.setProperty("--c", colourOf(emotion));
      return row;
    });
    this.find(".shares").replaceChildren(...rows);
    if (!this.isLong) return;
    const boxes = this.find(".boxes").children;
    const items = this.find(".list ol").children;
    for (const [index, item] of [...items].entries()) {
      const button = item.firstElementChild;
      if (index === place) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      boxes[index].classList.toggle("current", index === place);
    }
    const list = this.find(".list ol");
    list.scrollTop = items[place].offsetTop - list.clientHeight / 2;
  }

  drawUtterances() {
    const list = this.find(".list");
    list.hidden = false;
    find("summary", list).textContent = this.utterances.length ? "Utterances" : "No utterance is long enough to name";
    for (const utterance of this.utterances) {
      const times = `${clock(utterance.start_seconds)} to ${clock(utterance.end_seconds)}`;
      const bar = element("i");
      bar.style.width = percent(utterance.probability).replace(" ", "");
      const button = element(
        "button",
        { type: "button" },
        element("span", { className: "at", textContent: clock(utterance.start_seconds) }),
        element("span", { className: "name", textContent: nameOf(utterance) }),
        element("span", { className: "bar" }, bar),
        element("span", { className: "number", textContent: percent(utterance.probability) }),
      );
      button.setAttribute("aria-label", `${times}: ${nameOf(utterance)}, ${percent(utterance.probability)}`);
      button.style.setProperty("--c", colourOf(utterance.emotion));
      button.classList.toggle("abstained", utterance.abstained === true);
      button.onclick = () => this.seek(utterance.start_seconds);
      find("ol", list).append(element("li", {}, button));

      const box = element(
        "b",
        { className: utterance.abstained ? "abstained" : "" },
        utterance.abstained ? `(${utterance.emotion})` : utterance.emotion,
        element("br"),
        percent(utterance.probability),
      );
      box.style.left = `${(100 * utterance.start_seconds) / this.seconds}%`;
      box.style.width = `${(100 * (utterance.end_seconds - utterance.start_seconds)) / this.seconds}%`;
      box.style.setProperty("--c", colourOf(utterance.emotion));
      this.find(".boxes").append(box);
    }
  }
}

// Files

function open(files) {
  for (const file of files) new Card(file, file.name);
}

find("#files").onchange = (event) => {
  open(event.target.files);
  event.target.value = "";
};
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  open(event.dataTransfer.files);
});

// The microphone

let recording = null;
let taken = 0;

async function toggle() {
  const button = find("#microphone");
  if (recording) {
    const blob = recording.end();
    recording = null;
    show(false);
    if (blob) new Card(blob, `Recording ${++taken}`);
    else refuse("The microphone gave no sound; check that it is not turned off, and record again.");
    return;
  }
  button.disabled = true;
  try {
    recording = await beginRecording(find("#live"), (seconds) => (find("#clock").textContent = clock(seconds)), toggle);
    show(true);
    find("#no-microphone").hidden = true;
    say("Recording.");
  } catch (error) {
    refuse(`The microphone cannot be used: ${error.message || error.name}. Files work all the same.`);
  } finally {
    button.disabled = false;
    button.focus();
  }
}

function show(isRecording) {
  document.body.classList.toggle("recording", isRecording);
  find("#live").hidden = !isRecording;
  find("#clock").hidden = !isRecording;
  find("#clock").textContent = "0:00";
  find("#microphone-label").textContent = isRecording ? "Stop" : "Record";
}

function refuse(text) {
  const notice = find("#no-microphone");
  notice.textContent = text;
  notice.hidden = false;
}

if (window.isSecureContext && navigator.mediaDevices) {
  find("#microphone").onclick = toggle;
} else {
  find("#record").hidden = true;
  refuse(
    `The browser gives the microphone only to pages from localhost or over HTTPS, and this one is from ${location.origin}. ` +
      "Open it on the machine itself, or put it behind a proxy with TLS. Files work all the same.",
  );
}
