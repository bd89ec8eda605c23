// The documents' JavaScript client (era-http-server-mode.txt): node client.mjs BASE
class ERAAgentClient {
  constructor(baseURL = 'http://localhost:8787') {
    this.baseURL = baseURL;
  }
  async execute(code, language = 'python', options = {}) {
    const response = await fetch(`${this.baseURL}/api/execute`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ code, language, ...options })
    });
    return response.json();
  }
  async createSession(language, options = {}) {
    const response = await fetch(`${this.baseURL}/api/sessions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ language, ...options })
    });
    return response.json();
  }
  async runInSession(sessionId, code, options = {}) {
    const response = await fetch(
      `${this.baseURL}/api/sessions/${sessionId}/run`,
      {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ code, ...options })
      }
    );
    return response.json();
  }
}

const client = new ERAAgentClient(process.argv[2]);
const result = await client.execute("console.log('Hello!')", 'node');
const session = await client.createSession('node');
const first = await client.runInSession(session.id, 'let x = 42');
const second = await client.runInSession(session.id, 'console.log(x * 2)');
console.log(JSON.stringify([result, session, first, second]));
