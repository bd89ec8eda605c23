'use strict';
// Tells a run of a SIGINT that its synchronous part did not take.
//
// Node gives SIGINT to a listener of the process or to the watchdog behind `breakOnSigint`, and kills the process where the
// signal comes while one takes over from the other.  So there is no listener: the watchdog stays on for good, stops
// synchronous code by itself, and is asked for a signal that came while code was waiting.
const isDeno = typeof Deno !== 'undefined';
const PERIOD_MS = 20;
const { setInterval: every, clearInterval: stop } = globalThis;

let watchdog = null;
let listener = null;
let timer = null;

/** Once, at boot. */
function install() {
  if (isDeno) {
    process.on('SIGINT', () => listener?.());
    return;
  }
  const { noDeprecation } = process;
  process.noDeprecation = true;
  const { startSigintWatchdog, stopSigintWatchdog, watchdogHasPendingSigint } = process.binding('contextify');
  process.noDeprecation = noDeprecation;
  watchdog = { start: startSigintWatchdog, stop: stopSigintWatchdog, isPending: watchdogHasPendingSigint };
  watchdog.start();
}

/** Forgets a signal that is pending: a nested start and stop does that, and leaves the watchdog on. */
function forget() {
  if (watchdog === null) return;
  watchdog.start();
  watchdog.stop();
}

/** `onInterrupt` is called when a SIGINT comes; signals from before do not count. */
function arm(onInterrupt) {
  forget();
  listener = onInterrupt;
  if (watchdog === null) return;
  timer = every(() => {
    if (!watchdog.isPending()) return;
    forget();
    listener?.();
  }, PERIOD_MS);
  timer.unref();
}

function disarm() {
  listener = null;
  stop(timer);
  timer = null;
}

module.exports = { install, arm, disarm };
