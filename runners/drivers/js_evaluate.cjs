'use strict';
// Evaluates programs in a lasting REPL scope by an in-process inspector session, and gives their values as objects.
const inspector = require('inspector');
const v8 = require('v8');
const vm = require('vm');

const JOB = Symbol.for('era.job');
const GRAB = Symbol.for('era.grab');
const GROUP = 'run';
const NOTHING = Symbol('nothing');

class Evaluator {
  constructor() {
    this.session = new inspector.Session();
    this.session.connect();
    this.held = new Set();
    this.declared = new Set();
    this.job = null;
    this.stopHook = null;
    this.grabbed = undefined;
    this.isRunning = false;
    const hide = (key, value) => Object.defineProperty(globalThis, key, { value, enumerable: false });
    hide(JOB, () => this.job());
    hide(GRAB, (value) => { this.grabbed = value; });
    this.runner = new vm.Script('globalThis[Symbol.for("era.job")]()');
  }

  /**
   * Evaluates code; `done(error, reply)` is called when its promise has settled, which may be never.
   * Returns false where a SIGINT stopped its synchronous part; `done` is not called then.
   */
  evaluate(expression, done) {
    let early = null;
    // A signal may strike anywhere while the script runs: nothing of ours happens in there.
    this.job = () => this.post(expression, (error, reply) => { if (this.isRunning) early = { error, reply }; else done(error, reply); });
    this.isRunning = true;
    try {
      this.runner.runInThisContext({ breakOnSigint: true });
    } catch (error) {
      if (error.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') return false;
      throw error;
    } finally {
      this.isRunning = false;
      this.unhook();
    }
    if (early) done(early.error, early.reply);
    return true;
  }

  post(expression, done) {
    // V8 aborts the process if the promise of an evaluation is collected ("Promise was collected" is reported from inside
    // the collector), e.g. after `await new Promise(() => {})`: the first promise that it makes is held until it settles.
    let mine = null;
    this.stopHook = v8.promiseHooks?.onInit?.((promise) => {
      if (mine === null) { mine = promise; this.held.add(promise); }
    });
    const parameters = { expression, replMode: true, awaitPromise: true, objectGroup: GROUP };
    try {
      this.session.post('Runtime.evaluate', parameters, (error, reply) => { this.held.delete(mine); done(error, reply); });
    } finally {
      this.unhook();
    }
  }

  unhook() {
    const stop = this.stopHook;
    this.stopHook = null;
    stop?.();
  }

  /** The value that a reply's remote object stands for. */
  valueOf(remote) {
    if (!remote.objectId) {
      if (remote.type === 'bigint') return BigInt(remote.unserializableValue.slice(0, -1));
      return remote.unserializableValue ? Number(remote.unserializableValue) : remote.value;
    }
    this.grabbed = undefined;
    const functionDeclaration = 'function(){globalThis[Symbol.for("era.grab")](this)}';
    // A symbol would arrive as a wrapper object.
    if (remote.type === 'symbol') {
      this.session.post('Runtime.callFunctionOn', {
        objectId: remote.objectId, functionDeclaration: 'function(s){globalThis[Symbol.for("era.grab")](s)}', arguments: [{ objectId: remote.objectId }],
      });
    } else this.session.post('Runtime.callFunctionOn', { objectId: remote.objectId, functionDeclaration });
    const value = this.grabbed;
    this.grabbed = undefined;
    return value;
  }

  /** The value of an expression that needs no waiting, as `{value}`; undefined where it throws. */
  peek(expression) {
    this.grabbed = NOTHING;
    // Not in REPL mode, whose answer is a promise that nobody would hold.
    this.session.post('Runtime.evaluate', { expression: `globalThis[Symbol.for("era.grab")](${expression}\n)`, silent: true }, () => {});
    const value = this.grabbed;
    this.grabbed = undefined;
    return value === NOTHING ? undefined : { value };
  }

  /** Evaluates declarations that need no waiting, in the same scope as programs. */
  declare(expression) {
    this.post(expression, () => {});
  }

  /** Names that let declared at top level: by V8's word, and by ours where it answers later. */
  lexicalNames() {
    let names = [];
    this.session.post('Runtime.globalLexicalScopeNames', {}, (error, reply) => { names = reply?.names ?? []; });
    return new Set([...names, ...this.declared]);
  }

  /** A request to the inspector. Rejects where it fails. */
  request(method, parameters) {
    return new Promise((resolve, reject) => {
      this.session.post(method, { objectGroup: GROUP, ...parameters }, (error, reply) => (error ? reject(error) : resolve(reply)));
    });
  }

  release() {
    this.session.post('Runtime.releaseObjectGroup', { objectGroup: GROUP });
  }
}

module.exports = { Evaluator };
