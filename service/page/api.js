// The service's REST API, as this page needs it.

const KEY = "stamp-api-key";

export class Problem extends Error {
  // problem: what the service answered, RFC 9457.
  constructor(problem) {
    super(problem.detail || problem.title || "The service did not answer.");
    this.problem = problem;
  }
}

export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function getInfo() {
  return call("GET", "/info");
}

export function getHistory(userId, limit) {
  return call("GET", `/users/${encodeURIComponent(userId)}/history?limit=${limit}`);
}

export function findItems(text, limit) {
  return call("GET", `/items?${new URLSearchParams({ q: text, limit })}`);
}

export function postEvent(userId, itemId) {
  return call("POST", "/events", { events: [{ user_id: userId, item_id: itemId }] });
}

export function recommend(request) {
  return call("POST", "/recommend", request);
}

// The command that sends the same request.
export function curl(request) {
  const body = JSON.stringify(request).replaceAll("'", "'\\''");
  const key = sessionStorage.getItem(KEY) ? ' -H "X-API-Key: $KEY"' : "";
  return `curl -s ${location.origin}/recommend -H 'Content-Type: application/json' -d '${body}'${key}`;
}

// { body, timing } of an answer, timing by stage in ms; else a Problem.
async function call(method, path, body) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers["X-API-Key"] = key;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Problem({ title: "The service cannot be reached." });
  }
  const parsed = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem({ status: response.status, ...parsed });
  return { body: parsed, timing: stages(response.headers.get("Server-Timing")) };
}

function stages(header) {
  const found = (header || "").matchAll(/(\w+);dur=([\d.]+)/g);
  return Object.fromEntries([...found].map(([, name, ms]) => [name, Number(ms)]));
}
