'use strict';
// Gives each run a standard input of its own: descriptor 0 becomes a file that holds the text and then ends.
const fs = require('fs');

const isDeno = typeof Deno !== 'undefined';
let libc = null;
let isEmpty = false;
let count = 0;

/** Makes descriptor 0 the file at `path`. */
function redirect(path) {
  if (!isDeno) {
    fs.closeSync(0);
    fs.openSync(path, 'r'); // takes the lowest free descriptor
    return;
  }
  libc ??= Deno.dlopen('libc.so.6', {
    open: { parameters: ['buffer', 'i32'], result: 'i32' },
    dup2: { parameters: ['i32', 'i32'], result: 'i32' },
    close: { parameters: ['i32'], result: 'i32' },
  }).symbols;
  const descriptor = libc.open(new TextEncoder().encode(`${path}\0`), 0);
  libc.dup2(descriptor, 0);
  libc.close(descriptor);
}

/** `content`: bytes, or null for none. */
function setInput(content) {
  if (content === null || content.length === 0) {
    if (!isEmpty) redirect('/dev/null');
    isEmpty = true;
  } else {
    const path = `/tmp/.stdin-${process.pid}-${count += 1}`;
    fs.writeFileSync(path, content, { mode: 0o600, flag: 'wx' });
    redirect(path);
    fs.unlinkSync(path);
    isEmpty = false;
  }
  let stream = null;
  Object.defineProperty(process, 'stdin', {
    configurable: true,
    enumerable: true,
    get: () => (stream ??= fs.createReadStream('', { fd: 0, autoClose: false })),
  });
}

module.exports = { setInput };
