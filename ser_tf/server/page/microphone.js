// Records the microphone as a wav file, 16 bit in mono at the device's own rate, without any codec.

const LONGEST_SECONDS = 600;

// Begins to record. `canvas` shows the level, `onSeconds` gets the seconds so far; `onFull` is called after ten minutes.
// Returns an object whose end() gives the file, or null where nothing was heard.
export async function beginRecording(canvas, onSeconds, onFull) {
  const unaltered = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...unaltered } });
  const context = new AudioContext();
  const pieces = [];
  const levels = [];
  let size = 0;
  try {
    await context.audioWorklet.addModule("/recorder.js");
    const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    recorder.port.onmessage = ({ data }) => {
      pieces.push(data);
      size += data.length;
      levels.push(data.reduce((level, sample) => Math.max(level, Math.abs(sample)), 0));
      draw(canvas, levels);
      onSeconds(size / context.sampleRate);
      if (size > LONGEST_SECONDS * context.sampleRate) onFull();
    };
    context.createMediaStreamSource(stream).connect(recorder);
    await context.resume();
  } catch (error) {
    close();
    throw error;
  }

  function close() {
    for (const track of stream.getTracks()) track.stop();
    context.close();
  }

  return {
    end() {
      close();
      return size ? wav(pieces, size, context.sampleRate) : null;
    },
  };
}

function draw(canvas, levels) {
  const scale = window.devicePixelRatio;
  const [width, height] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  const step = 6 * scale;
  const shown = levels.slice(-Math.floor(width / step));
  pen.clearRect(0, 0, width, height);
  pen.strokeStyle = getComputedStyle(canvas).color;
  pen.lineWidth = step / 2;
  pen.lineCap = "round";
  pen.beginPath();
  for (const [place, level] of shown.entries()) {
    const x = width - (shown.length - place - 0.5) * step;
    const half = Math.max(Math.min(1.5 * Math.sqrt(level), 1) * (height / 2 - step), 0.5);
    pen.moveTo(x, height / 2 - half);
    pen.lineTo(x, height / 2 + half);
  }
  pen.stroke();
}

function wav(pieces, size, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * size));
  const text = (place, letters) => [...letters].forEach((letter, index) => view.setUint8(place + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * size, true);
  let place = 44;
  for (const piece of pieces) {
    for (const sample of piece) {
      view.setInt16(place, Math.round(32767 * Math.min(Math.max(sample, -1), 1)), true);
      place += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}
