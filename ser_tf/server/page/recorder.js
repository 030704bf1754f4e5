// Passes the microphone's samples on, in pieces of about a twentieth of a second.
class Recorder extends AudioWorkletProcessor {
  pieces = [];
  size = 0;

  process([input]) {
    const channel = input[0];
    if (channel) {
      this.pieces.push(channel.slice());
      this.size += channel.length;
      if (this.size >= sampleRate / 20) {
        const samples = new Float32Array(this.size);
        let place = 0;
        for (const piece of this.pieces) {
          samples.set(piece, place);
          place += piece.length;
        }
        this.port.postMessage(samples, [samples.buffer]);
        this.pieces = [];
        this.size = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
