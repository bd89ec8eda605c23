'use strict';
// Live session of node, typescript or deno: one process, one run after the other over descriptor 3, variables kept.
// argv: LANGUAGE FOLDER_OF_ACORN [WORKSPACE]
//
// A run ends when its top-level code has ended and the event loop is idle (a listening server does not count), when it
// exits, fails or is interrupted.  User code shares the process: what it breaks is its own session.
const fs = require('fs');
const mod = require('module');
const net = require('net');
const path = require('path');
const { spawnSync } = require('child_process');
const { pathToFileURL } = require('url');
const util = require('util');
const vm = require('vm');
const { Evaluator } = require('./js_evaluate.cjs');
const interrupts = require('./js_interrupt.cjs');
const output = require('./js_output.cjs');
const { rewrite } = require('./js_rewrite.cjs');
const { setInput } = require('./js_stdin.cjs');
const snapshots = require('./js_snapshot.cjs');
const timers = require('./js_timers.cjs');

const isDeno = typeof Deno !== 'undefined';
const [LANGUAGE, PARSER, WORKSPACE = '/workspace'] = process.argv.slice(2);
const FILE = `${WORKSPACE}/main.${LANGUAGE === 'node' ? 'js' : 'ts'}`;
const TYPED = LANGUAGE !== 'node';
const RESULT_BYTES = 64 * 1024; // Source: the contract: a result is at most 64 KiB
const IDLE_SOCKET_MS = 200; // a kept-alive connection holds a run no longer than this
const INTERRUPTED = 130;
const { stringify, parse: parseJson } = JSON;
const { inspect } = util;
const realExit = isDeno ? Deno.exit.bind(Deno) : process.reallyExit.bind(process);
const compiler = TYPED ? require('./typescript_source.cjs') : null;
const evaluator = new Evaluator();
const parseProgram = loadParser();

/** Thrown by process.exit and its like where nothing stronger is at hand. */
class Exit { constructor(code) { this.code = code; } }

let channel = null;
let current = null; // the run that is going on: {request, code, baseline, before, isSettled, exit, timer, result}
let runs = 0;
let isAnswering = false;
const waiting = [];
const places = new Map(); // file name of a run whose lines its compiler moved → how to find the line that people know

function loadParser() {
  const file = path.join(PARSER, 'acorn.cjs');
  if (fs.existsSync(file)) return require(file).parse;
  if (isDeno) return null;
  // Node's own copy, slower to reach.
  const loaded = { exports: {} };
  process.noDeprecation = true;
  const text = process.binding('natives')['internal/deps/acorn/acorn/dist/acorn'];
  vm.compileFunction(text, ['exports', 'module'])(loaded.exports, loaded);
  process.noDeprecation = false;
  return loaded.exports.parse;
}

// ---------------------------------------------------------------- the channel

function openChannel() {
  let pending = Buffer.alloc(0);
  channel = new net.Socket({ fd: 3, readable: true, writable: true });
  channel.on('data', (part) => {
    pending = pending.length ? Buffer.concat([pending, part]) : part;
    while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE(0)) {
      const end = 4 + pending.readUInt32BE(0);
      waiting.push(parseJson(pending.subarray(4, end).toString('utf8')));
      pending = pending.subarray(end);
    }
    next();
  });
  channel.on('close', () => realExit(0));
  channel.on('error', () => {});
}

const write = net.Socket.prototype.write;

function reply(value) {
  const body = Buffer.from(stringify(value));
  const frame = Buffer.allocUnsafe(4 + body.length);
  frame.writeUInt32BE(body.length);
  body.copy(frame, 4);
  write.call(channel, frame);
}

function next() {
  if (current || isAnswering || !waiting.length) return undefined;
  const request = waiting.shift();
  if (request.op === 'run') return start(request);
  isAnswering = true;
  return answer(request).then((value) => {
    reply(value);
    isAnswering = false;
    evaluator.release();
    setImmediate(next);
  });
}

async function answer(request) {
  try {
    if (request.op === 'snapshot') return { ok: true, ...await snapshots.take(evaluator, hooks, parseProgram) };
    return { ok: true, lost: await snapshots.restore(evaluator, hooks, request.content) };
  } catch (error) {
    return { ok: false, error: String(error?.message ?? error).slice(0, 500) };
  }
}

// ---------------------------------------------------------------- one run

function resources() {
  const count = {};
  for (const kind of process.getActiveResourcesInfo()) count[kind] = (count[kind] ?? 0) + 1;
  return count;
}

/** Kinds of resources that this run opened and that hold it. What earlier runs left does not. */
function holding(run) {
  const now = resources();
  return Object.keys(now).filter((kind) => kind !== 'Immediate' && !/Server/.test(kind) && now[kind] > (run.baseline[kind] ?? 0));
}

function enterEnvironment(names) {
  const before = new Map();
  for (const [name, value] of Object.entries(names ?? {})) {
    before.set(name, process.env[name]);
    process.env[name] = value;
  }
  return before;
}

function leaveEnvironment(before) {
  for (const [name, value] of before) {
    if (value === undefined) delete process.env[name]; else process.env[name] = value;
  }
}

function setArguments(args) {
  process.argv = [process.argv[0], FILE, ...args];
  if (isDeno) Deno.args.splice(0, Deno.args.length, ...args);
}

function start(request) {
  runs += 1;
  const run = { request, before: enterEnvironment(request.env), isSettled: false, exit: null, timer: null };
  current = run;
  setInput(request.stdin ? Buffer.from(request.stdin, 'base64') : null);
  setArguments(request.args ?? []);
  process.exitCode = undefined;
  channel.unref();
  run.baseline = resources();
  timers.forget();
  interrupts.arm(() => stopped(run));
  // Functions of earlier runs keep their place in stack traces: every run has a name of its own.
  run.file = FILE + (runs > 1 ? `#${runs}` : '');
  let code;
  try {
    code = prepare(request.code, run.file);
  } catch (error) {
    fs.writeSync(2, `${error instanceof compiler.CompileError ? error.message : error.stack}\n`);
    return finish(run, 1, undefined, isDeno ? null : 'compile_error');
  }
  if (!evaluator.evaluate(`${code}\n//# sourceURL=${run.file}`, (error, outcome) => settled(run, error, outcome))) stopped(run);
}

function prepare(source, file) {
  const { code, place } = TYPED ? compiler.separateMap(compiler.toJavaScript(source, file).code) : { code: source };
  if (place) places.set(file, place);
  let names = null;
  const rewritten = rewrite(code, parseProgram, {
    isLexical: (name) => (names ??= evaluator.lexicalNames()).has(name),
    isFixed: (name) => Object.getOwnPropertyDescriptor(globalThis, name)?.configurable === false,
  });
  for (const name of rewritten.declared) evaluator.declared.add(name);
  return rewritten.code;
}

/** A SIGINT ended the synchronous part: the host's, or the one that process.exit sent. */
function stopped(run) {
  if (current !== run) return undefined;
  if (run.exit !== null) return finish(run, run.exit);
  fs.writeSync(2, 'Interrupted\n');
  return finish(run, INTERRUPTED);
}

function settled(run, error, outcome) {
  if (current !== run) return;
  run.isSettled = true;
  if (run.exit !== null) return finish(run, run.exit);
  // A program that sent itself a SIGINT has lost the inspector for good: the state is gone, and the host shall see it.
  if (error && /Cannot find context/.test(error.message)) return realExit(70);
  if (error) return /terminated/.test(error.message) ? stopped(run) : finish(run, show(error));
  const details = outcome.exceptionDetails;
  const value = evaluator.valueOf(details?.exception ?? outcome.result);
  if (details) return finish(run, show(value, syntaxPlace(run, value, details)));
  try {
    run.result = value === undefined ? undefined : bounded(inspect(value));
  } catch (failure) {
    return finish(run, show(failure));
  }
  const since = performance.now();
  setImmediate(() => wait(run, since));
}

/** Waits until nothing of the run holds the event loop. */
function wait(run, since) {
  if (current !== run) return;
  const held = holding(run);
  const isOver = held.length === 0 || (held.every((kind) => /Socket|TLS|Pipe/.test(kind)) && performance.now() - since > IDLE_SOCKET_MS);
  if (isOver) return complete(run);
  run.timer = setTimeout(wait, 5, run, since);
  run.timer.unref();
}

function complete(run) {
  run.isComplete = true;
  finish(run, exitCode(process.exitCode ?? 0), run.result);
}

/** Ends the run; all that it wrote is in the pipes by now. */
function finish(run, exit, result, failure) {
  if (current !== run) return undefined;
  if (!run.isComplete) timers.clearAll();
  interrupts.disarm();
  clearTimeout(run.timer);
  channel.ref();
  leaveEnvironment(run.before);
  current = null;
  evaluator.release();
  reply({ id: run.request.id, exit, result: result ?? null, error: failure ?? null });
  return void setImmediate(next);
}

// ---------------------------------------------------------------- what people see

function bounded(text) {
  const bytes = Buffer.from(text);
  if (bytes.length <= RESULT_BYTES) return bytes.toString();
  return `${bytes.subarray(0, RESULT_BYTES - 3).toString().replace(/\ufffd$/, '')}…`;
}

function exitCode(code) {
  const number = Number(code ?? 0);
  return Number.isInteger(number) ? number & 255 : 1;
}

/** The stack in the lines that people wrote, without the frames that lead from us to the program. */
function tidy(stack) {
  const told = places.size === 0 ? stack : stack.replace(/([^\s(]+):(\d+):(\d+)/g, (all, file, line, column) => {
    const place = places.get(file);
    return place ? [file, ...place(Number(line), Number(column))].join(':') : all;
  });
  return told.replace(/\n    at (?:Session\.post|[^\n]*node:inspector|[^\n]*ext:deno_node\/inspector|[^\n]*\/(?:js_live|js_evaluate)\.cjs)[\s\S]*$/, '');
}

/** Prints an uncaught value as the REPL would; its exit code. */
function show(value, place = '') {
  if (value instanceof Exit) return exitCode(value.code);
  try {
    if (typeof value?.stack === 'string') Object.defineProperty(value, 'stack', { value: tidy(value.stack), configurable: true, writable: true });
  } catch { /* a frozen error shows all frames */ }
  let text;
  try {
    const isBare = value instanceof Error && !String(value.stack).includes('\n    at ') && Object.keys(value).length === 0;
    text = isBare ? String(value.stack) : inspect(value);
  } catch {
    text = 'an error that cannot be shown';
  }
  process.stderr.write(`${place}Uncaught ${text}\n`);
  return 1;
}

/** File, line and caret of an error of syntax, which has no frame of its own. */
function syntaxPlace(run, value, details) {
  if (!(value instanceof SyntaxError) || hooks.raised.has(value) || details.lineNumber === undefined || /\n    at /.test(tidy(String(value.stack)))) return '';
  const line = run.request.code.split('\n')[details.lineNumber] ?? '';
  return `${run.file}:${details.lineNumber + 1}\n${line}\n${' '.repeat(Math.max(0, details.columnNumber))}^\n\n`;
}

// ---------------------------------------------------------------- what programs find in their global scope

/** process.exit: ends the run, not the process; code after it does not run. */
function leave(code) {
  const run = current;
  const exit = exitCode(code ?? process.exitCode ?? 0);
  if (run === null || run.exit !== null) throw new Exit(exit);
  run.exit = exit;
  setImmediate(() => finish(run, exit)); // also where the program catches what is thrown below
  if (evaluator.isRunning && !isDeno && /\b(?:catch|finally)\b/.test(run.request.code)) interruptSelf();
  throw new Exit(exit);
}

/**
 * Stops the synchronous part of the run so that no catch or finally of the program sees it.  The signal has to come from
 * another process: node takes a SIGINT that it sends to itself for its own end and closes the inspector.
 */
function interruptSelf() {
  if (spawnSync('/bin/sh', ['-c', 'kill -INT "$0"', String(process.pid)], { stdio: 'ignore' }).status === 0) for (;;);
}

function fail(error) {
  const run = current;
  if (run === null) return void process.stderr.write(`Uncaught ${inspect(error)}\n`);
  return finish(run, run.exit ?? show(error));
}

/** Deno names no file for evaluated code: its frames are told by the name that each run has. */
function nameFrames() {
  const place = (site) => `${site.getScriptNameOrSourceURL()}:${site.getLineNumber()}:${site.getColumnNumber()}`;
  const frame = (site) => {
    if (site.getFileName() || !site.getScriptNameOrSourceURL()) return site.toString();
    const name = site.getFunctionName();
    return name ? `${site.isAsync() ? 'async ' : ''}${name} (${place(site)})` : place(site);
  };
  Error.prepareStackTrace = (error, sites) => [Error.prototype.toString.call(error), ...sites.map(frame)].join('\n    at ');
}

/** What rewritten programs call; also the memory of what was imported from where, for snapshots. */
const hooks = {
  imported: new Map(),
  raised: new WeakSet(),
  meta: Object.freeze({
    url: pathToFileURL(FILE).href, filename: FILE, dirname: WORKSPACE, main: true,
    resolve: (specifier) => (isDeno ? new URL(specifier, hooks.meta.url).href : pathToFileURL(hooks.require.resolve(specifier)).href),
  }),
  async load(specifier, options, names = []) {
    const isRelative = /^\.{0,2}\//.test(specifier);
    const module = await hooks.importer(isRelative ? new URL(specifier, hooks.meta.url).href : String(specifier), options);
    hooks.imported.set(module, { from: 'import', specifier: String(specifier) });
    const missing = names.find((name) => !(name in module));
    if (missing === undefined) return module;
    const error = new SyntaxError(`The requested module '${specifier}' does not provide an export named '${missing}'`);
    hooks.raised.add(error);
    throw error;
  },
  constant() {
    const error = new TypeError('Assignment to constant variable.');
    Error.captureStackTrace(error, hooks.constant);
    throw error;
  },
};

/** The program's require, which remembers what came from where. */
function rememberingRequire() {
  const remembering = (specifier) => {
    const module = hooks.require(specifier);
    const isObject = module !== null && (typeof module === 'object' || typeof module === 'function');
    if (isObject && !hooks.imported.has(module)) hooks.imported.set(module, { from: 'require', specifier: String(specifier) });
    return module;
  };
  Object.defineProperty(remembering, 'name', { value: 'require' });
  return Object.assign(remembering, hooks.require);
}

function furnish() {
  const define = (key, value) => Object.defineProperty(globalThis, key, { value, writable: true, configurable: true, enumerable: false });
  hooks.require = mod.createRequire(FILE);
  hooks.importer = vm.runInThisContext('(specifier, options) => import(specifier, options)', {
    filename: `${WORKSPACE}/main.js`, importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  define('require', rememberingRequire());
  define('module', { exports: {} });
  define('exports', globalThis.module.exports);
  define('__dirname', WORKSPACE);
  define('__filename', FILE);
  Object.defineProperty(globalThis, Symbol.for('era.hooks'), { value: hooks, enumerable: false });
  process.exit = leave;
  if (isDeno) Deno.exit = leave;
  if (isDeno) nameFrames();
  process.execArgv = [];
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  process.on('beforeExit', () => {
    const run = current;
    if (run === null) return undefined;
    if (run.isSettled) return complete(run);
    fs.writeSync(2, 'Warning: Detected unsettled top-level await\n');
    return finish(run, 13);
  });
  if (TYPED && !isDeno) mod.registerHooks({ resolve: compiler.resolve, load: compiler.load });
}

process.chdir(WORKSPACE);
if (!isDeno) output.install();
interrupts.install();
timers.install();
const emitWarning = process.emitWarning;
process.emitWarning = () => {}; // what is experimental here is ours, not the program's
furnish();
compiler?.warm();
void process.stdout;
void process.stderr;
inspect({ a: [1] });
hooks.importer('node:path').then(() => {
  process.emitWarning = emitWarning;
  evaluator.evaluate('0', () => setImmediate(() => { snapshots.begin(); openChannel(); }));
});
