'use strict';
// Turns TypeScript into JavaScript by the stripper that node carries: positions stay where they are, or a source map tells them.
const fs = require('fs');
const mod = require('module');
const vm = require('vm');

const { stripTypeScriptTypes } = mod;
const WRAPPER = ['exports', 'require', 'module', '__filename', '__dirname'];

// Exercises what programs use most, so that the stripper's code is compiled before a program waits for it.
const SAMPLE = `
import type { A } from './a';
enum Color { Red, Green = 'g' }
namespace Space { export const x: number = 1; export function f(a?: string): void {} }
interface Shape<T extends object = {}> { readonly kind: 'circle' | 'square'; area?(): number; [key: string]: unknown }
abstract class Base<T> { private static n = 0; constructor(protected readonly name: string, public t?: T) {} abstract go(): Promise<T>; }
class Point extends Base<number> implements Shape<{}> { kind = 'circle' as const; async go(): Promise<number> { return (this.t ?? 1)!; } }
type Fn = <T>(a: T, ...rest: Array<T>) => a is T;
const list: Array<Record<string, number>> = [{ a: 1 }].map((x): Record<string, number> => ({ ...x }));
function over(a: string): string; function over(a: any): any { return a satisfies unknown; }
async function main(): Promise<void> { try { for (const [k, v] of Object.entries(list)) console.log(\`\${k}\`, v); } catch (e: unknown) { throw <Error>e; } }
let t: [a: string, b?: number] = ['x']; switch (t[0]) { case 'x': break; default: do { t = t as any; } while (false); }
`;
const PLAIN = SAMPLE.replace(/^enum.*|^namespace.*|^abstract.*|^class.*|<Error>/gm, '');

/** Text of a program that does not compile, as a compiler would print it. */
class CompileError extends Error {
  constructor(error, file) {
    const stack = String(error && error.stack || error).replace(/\n    at [\s\S]*$/, '').replace(/ \[ERR_\w+\]/, '');
    super(stack.startsWith(':') ? file + stack : `${file}\n${stack}`);
    this.name = 'CompileError';
  }
}

/** The inline source map with the source inside: node shows the failing line from there, as no file has it. */
function withSource(code, source) {
  return code.replace(/(\/\/# sourceMappingURL=data:application\/json;base64,)([\w+/=]+)\s*$/, (_, head, body) => {
    const map = JSON.parse(Buffer.from(body, 'base64').toString());
    return head + Buffer.from(JSON.stringify({ ...map, sourcesContent: [source] })).toString('base64');
  });
}

/** JavaScript for TypeScript; `mapped` is true where lines moved and a source map is inside. Throws CompileError. */
function toJavaScript(source, file) {
  try {
    return { code: stripTypeScriptTypes(source, { mode: 'strip' }), mapped: false };
  } catch (error) {
    if (error.code !== 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX') throw new CompileError(error, file);
  }
  try {
    const code = stripTypeScriptTypes(source, { mode: 'transform', sourceMap: true, sourceUrl: file });
    return { code: withSource(code, source), mapped: true };
  } catch (error) {
    throw new CompileError(error, file);
  }
}

/** Splits code from its inline source map: a function from a place in the code to the one in the source, or null. */
function separateMap(code) {
  const found = /\n\/\/# sourceMappingURL=data:application\/json;base64,([\w+/=]+)\s*$/.exec(code);
  if (!found || !mod.SourceMap) return { code, place: null };
  const map = new mod.SourceMap(JSON.parse(Buffer.from(found[1], 'base64').toString()));
  const place = (line, column) => {
    const entry = map.findEntry(line - 1, column - 1);
    return entry.originalLine === undefined ? [line, column] : [entry.originalLine + 1, entry.originalColumn + 1];
  };
  return { code: code.slice(0, found.index), place };
}

/** 'module' where the code cannot be a CommonJS body (import, export, top-level await), else 'commonjs'. */
function formatOf(code) {
  try {
    vm.compileFunction(code, WRAPPER);
    return 'commonjs';
  } catch {
    return 'module';
  }
}

/** Compiles the stripper ahead of need; its one-time experimental warning is ours, not the program's. */
function warm() {
  const emit = process.emitWarning;
  process.emitWarning = () => {};
  try {
    toJavaScript(SAMPLE, 'warm.ts');
    toJavaScript(PLAIN, 'warm.ts');
  } finally {
    process.emitWarning = emit;
  }
}

/** Load hook for the workspace's own TypeScript files, enums and namespaces included. */
function load(url, context, next) {
  if (!/^file:[^?#]*\.[mc]?ts(?:[?#]|$)/.test(url) || url.includes('/node_modules/')) return next(url, context);
  const file = require('url').fileURLToPath(url);
  const { code, mapped } = toJavaScript(fs.readFileSync(file, 'utf8'), url);
  if (mapped) process.setSourceMapsEnabled(true);
  const suffix = /\.([mc])ts/.exec(url);
  const format = suffix ? (suffix[1] === 'm' ? 'module' : 'commonjs') : formatOf(code);
  return { source: code, format, shortCircuit: true };
}

/** Resolve hook: './x' and './x.js' find x.ts too, as TypeScript's own resolution does. */
function resolve(specifier, context, next) {
  try {
    return next(specifier, context);
  } catch (error) {
    if (!/^(?:\.{0,2}\/|file:)/.test(specifier) || !/MODULE_NOT_FOUND|UNSUPPORTED_DIR_IMPORT/.test(error.code)) throw error;
    const stem = specifier.replace(/\.js$/, '');
    for (const candidate of [`${stem}.ts`, `${specifier}/index.ts`, `${stem}.mts`, `${stem}.cts`, `${stem}.js`]) {
      try {
        return next(candidate, context);
      } catch { /* the next one */ }
    }
    throw error;
  }
}

module.exports = { CompileError, toJavaScript, separateMap, formatOf, warm, load, resolve };
