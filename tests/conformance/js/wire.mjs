// The client's transports, with a record of all that they send and receive, in the form of tests/golden.

import WebSocket from "ws";

// Make a WebSocket class that notes each connection's life in `frames`.
export function recordedWebSocket(frames) {
  let count = 0;
  return class RecordedWebSocket extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      const conn = `ws${++count}`;
      this.note = (dir, opcode, more) => frames.push({ conn, dir, opcode, ...more });
      this.note("send", "connect", { url, protocols: protocols ?? null });
      this.on("upgrade", ({ statusCode, headers }) => {
        this.note("recv", "http", { status: statusCode, protocol: headers["sec-websocket-protocol"] ?? null });
      });
      this.on("message", (data, binary) => this.note("recv", ...content(data, binary)));
      this.on("error", (error) => this.note("recv", "error", { data: error.message, code: error.code }));
      this.on("close", (code) => this.note("recv", "closed", { code }));
    }

    send(data, ...more) {
      this.note("send", ...content(data, typeof data !== "string"));
      super.send(data, ...more);
    }
  };
}

function content(data, binary) {
  const bytes = Buffer.from(data);
  return binary ? ["binary", { b64: bytes.toString("base64") }] : ["text", { data: bytes.toString() }];
}

// Replace the global fetch, which the long-poll transport uses, with one that notes each call in `requests`; return the old one.
export function recordFetch(requests) {
  const fetch = globalThis.fetch;
  globalThis.fetch = async (target, { method = "GET", headers = {}, body = null, ...more } = {}) => {
    const request = { method, target, headers, body };
    requests.push(request);
    const response = await fetch(target, { method, headers, body, ...more });
    const text = await response.text();
    Object.assign(request, { status: response.status, answer: text });
    return { text: async () => text };
  };
  return fetch;
}
