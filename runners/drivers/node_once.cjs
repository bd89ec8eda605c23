'use strict';
// Boots node ahead of need, then runs one program from memory as `node main.js` (or main.ts) would.  argv: node|typescript
const fs = require('fs');
const { EventEmitter } = require('events');
const mod = require('module');
const { pathToFileURL } = require('url');

// A program may replace those of the modules.
const { fstatSync, statSync, writeSync } = fs;
const { defineProperty } = Object;

const CHANNEL = 3;
const TYPED = process.argv[2] === 'typescript';
const compiler = TYPED ? require('./typescript_source.cjs') : null;

/** The request: 4 bytes of big-endian length, then JSON. A host that went away ends us. */
function readRequest() {
  const exactly = (size) => {
    const bytes = Buffer.allocUnsafe(size);
    for (let at = 0; at < size;) {
      const count = fs.readSync(CHANNEL, bytes, at, size - at);
      if (count === 0) process.reallyExit(0);
      at += count;
    }
    return bytes;
  };
  return JSON.parse(exactly(exactly(4).readUInt32BE(0)).toString('utf8'));
}

/** Tells the host how compiling ended: 'C' and nanoseconds, or 'E' and the exit code. */
function report(kind, number) {
  const bytes = Buffer.alloc(kind === 'C' ? 9 : 2);
  bytes.write(kind);
  if (kind === 'C') bytes.writeBigUInt64BE(number, 1); else bytes[1] = number;
  try { fs.writeSync(CHANNEL, bytes); } catch { /* nobody listens */ }
}

/** Serves the main program under its name, though no such file exists. */
function serve(file, source, explicit) {
  const url = pathToFileURL(file).href;
  let loads = 0;
  mod.registerHooks({
    resolve(specifier, context, next) {
      if (specifier === file || specifier === url) return { url, shortCircuit: true };
      return TYPED ? compiler.resolve(specifier, context, next) : next(specifier, context);
    },
    load(wanted, context, next) {
      if (wanted !== url) return TYPED ? compiler.load(wanted, context, next) : next(wanted, context);
      // Without a format node looks for itself; it asks again, without a context, once it has found an ES module.
      const format = explicit ?? (context.format === 'module' || loads > 0 ? 'module' : undefined);
      loads += 1;
      return format ? { source, format, shortCircuit: true } : { source, shortCircuit: true };
    },
  });
}

/** What a package.json beside the program makes of it; node does not look itself where a hook has found the program. */
function formatOfPackage(cwd) {
  try {
    return JSON.parse(fs.readFileSync(`${cwd}/package.json`, 'utf8')).type === 'module' ? 'module' : undefined;
  } catch {
    return undefined;
  }
}

/** Compiles TypeScript; on an error prints it, reports it and ends the process. */
function compile(source, file) {
  const start = process.hrtime.bigint();
  try {
    const { code, mapped } = compiler.toJavaScript(source, file);
    if (mapped) process.setSourceMapsEnabled(true);
    report('C', process.hrtime.bigint() - start);
    return code;
  } catch (error) {
    fs.writeSync(2, `${error instanceof compiler.CompileError ? error.message : error.stack}\n`);
    report('E', 1);
    return process.reallyExit(1);
  }
}

/**
 * Says 'D' when the program has ended well and left its folder as it was: taking the engine down would keep its result
 * waiting. The last thing that node looks up is `process.emit`, to tell of the exit. Where nobody listens and nothing is
 * replaced, no code of the program can run any more; whoever else looks finds what is there without us.
 */
function promiseFarewell(cwd) {
  const { reallyExit } = process;
  const { emit } = EventEmitter.prototype;
  const traces = () => `${fstatSync(CHANNEL).ino} ${statSync(cwd, { bigint: true }).ctimeNs}`;
  const before = traces();
  let isKnown = false; // listeners that are called at the exit may look, too
  const isLast = () => {
    if (isKnown || !process._exiting) return false;
    isKnown = true;
    return !process._events.exit && EventEmitter.prototype.emit === emit && process.reallyExit === reallyExit;
  };
  const last = (name, code) => {
    try {
      if (name === 'exit' && code === 0 && traces() === before) writeSync(CHANNEL, 'D');
    } catch { /* the program has closed the channel */ }
    return false;
  };
  defineProperty(Object.getPrototypeOf(process), 'emit', {
    get: () => (isLast() ? last : EventEmitter.prototype.emit),
    set(value) { defineProperty(this, 'emit', { value, writable: true, enumerable: true, configurable: true }); },
    configurable: true,
  });
}

function main() {
  const request = readRequest();
  const cwd = request.cwd ?? '/workspace';
  const file = `${cwd}/${request.file ?? (TYPED ? 'main.ts' : 'main.js')}`;
  process.chdir(cwd);
  const source = TYPED ? compile(request.code, file) : request.code;
  if (request.farewell) promiseFarewell(cwd); else fs.closeSync(CHANNEL);
  Object.assign(process.env, request.env);
  process.argv = [process.argv[0], file, ...(request.args ?? [])];
  process.execArgv = [];
  serve(file, source, TYPED ? compiler.formatOf(source) : formatOfPackage(cwd));
  if (TYPED) mod._extensions['.ts'] = mod._extensions['.js'];
  // ES modules may use require, too; a CommonJS body has its own.
  Object.defineProperty(globalThis, 'require', { value: mod.createRequire(file), writable: true, configurable: true });
  process.nextTick(mod.runMain, file); // from the queue, so that no frame of ours is in a stack trace
}

/** What the first program would otherwise pay for: output streams, inspection, the loader of ES modules. */
function warm() {
  // Whoever writes to the descriptor itself must find it as a bare node leaves it: waiting for room.
  for (const { _handle: handle } of [process.stdout, process.stderr]) handle?.setBlocking?.(true);
  require('util').format('%s %o', 'a', { a: [1] });
  if (TYPED) compiler.warm();
  return import('data:text/javascript,export{}');
}

warm().then(main);
