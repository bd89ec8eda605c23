'use strict';
// Standard output and error of a live session: every write goes out at once and leaves nothing half done.
//
// An interrupt may strike in the middle of a write.  Node's own streams then wait for ever for a write that has ended long
// ago, and every later run is silent; these keep no state between writes.  The host reads the pipes all the time.
const fs = require('fs');
const { Writable } = require('stream');

const { writeSync } = fs;

function writeAll(descriptor, bytes) {
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(descriptor, bytes, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error; // a program made the pipe non-blocking
    }
  }
}

class Output extends Writable {
  constructor(descriptor) {
    super({ decodeStrings: true });
    this.fd = descriptor;
    this._type = 'pipe';
    this._isStdio = true;
  }

  write(chunk, encoding, callback) {
    const done = typeof encoding === 'function' ? encoding : callback;
    if (typeof chunk !== 'string' && !ArrayBuffer.isView(chunk)) return super.write(chunk, encoding, callback); // it knows how to complain
    const bytes = typeof chunk === 'string'
      ? Buffer.from(chunk, typeof encoding === 'string' ? encoding : 'utf8')
      : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    writeAll(this.fd, bytes);
    if (typeof done === 'function') process.nextTick(done, null);
    return true;
  }

  /** As with node's own, nothing closes them. */
  end(chunk, encoding, callback) {
    const done = [chunk, encoding, callback].find((each) => typeof each === 'function');
    if (chunk !== undefined && chunk !== null && typeof chunk !== 'function') this.write(chunk, encoding);
    if (done) process.nextTick(done);
    return this;
  }

  destroy() { return this; }

  destroySoon() { return this; }
}

/** Puts them in the place of node's own; before anything was printed. */
function install() {
  for (const [name, descriptor] of [['stdout', 1], ['stderr', 2]]) {
    const output = new Output(descriptor);
    Object.defineProperty(process, name, { configurable: true, enumerable: true, get: () => output });
  }
}

module.exports = { install };
