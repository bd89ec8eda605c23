'use strict';
// Remembers the timers that a run made, so that a run that exits, fails or is interrupted takes them with it.
const util = require('util');

const MANY = 10_000;
const { clearTimeout: clear } = globalThis;
let made = [];

function remembering(original) {
  const replacement = { [original.name](...given) {
    const timer = original.apply(this, given);
    made.push(timer);
    if (made.length > MANY) made = made.filter((each) => typeof each !== 'object' || !each._destroyed).slice(-MANY);
    return timer;
  } }[original.name];
  if (original[util.promisify.custom]) {
    Object.defineProperty(replacement, util.promisify.custom, { enumerable: true, get: () => original[util.promisify.custom] });
  }
  return replacement;
}

/** Puts remembering versions of setTimeout and setInterval into the global scope. */
function install() {
  for (const name of ['setTimeout', 'setInterval']) {
    const { enumerable } = Object.getOwnPropertyDescriptor(globalThis, name);
    const value = remembering(globalThis[name]);
    Object.defineProperty(globalThis, name, { value, enumerable, writable: true, configurable: true });
  }
}

/** Before a run: timers of earlier ones stay. */
function forget() { made = []; }

/** After a run that did not end by itself. */
function clearAll() {
  try {
    for (const timer of made) clear(timer);
  } catch { /* an interrupt left node's list of timers damaged */ }
  made = [];
}

module.exports = { install, forget, clearAll };
