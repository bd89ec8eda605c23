// The documents' stream reader (era-api-reference-v2.txt), its backslashes restored: node stream.mjs BASE
const response = await fetch(`${process.argv[2]}/api/sessions/my-session/stream`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({
    code: 'import time\nfor i in range(10):\n    print(f"Token {i}")\n    time.sleep(0.2)'
  })
});
const reader = response.body.getReader();
const decoder = new TextDecoder();
while (true) {
  const { done, value } = await reader.read();
  if (done) break;
  const chunk = decoder.decode(value);
  const lines = chunk.split('\n');
  for (const line of lines) {
    if (line.startsWith('data: ')) {
      const data = JSON.parse(line.slice(6));
      if (data.type === 'stdout') {
        console.log(data.content);
      }
    }
  }
}
