// What the page shows, made of elements and text only: nothing from the service becomes markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function nameOf(item) {
  return item.title || item.item_id;
}

// One line of the history; kept: its tokens that SAP kept, of numTokens, if an answer told.
export function historyLine(item, kept, numTokens, onRemove) {
  const told = kept !== undefined;
  const remove = onRemove && h(
    "button", { type: "button", class: "quiet", "aria-label": `Remove ${nameOf(item)}`, onclick: onRemove }, "×",
  );
  return h(
    "li", { class: told && kept === 0 ? "pruned" : undefined, "data-item": item.item_id },
    h("span", { class: "name" }, nameOf(item)),
    told ? tokenDots(kept, numTokens) : null,
    remove || null,
  );
}

function tokenDots(kept, numTokens) {
  const dots = Array.from({ length: numTokens }, (_, n) => h("i", { class: n < kept ? "on" : "off" }));
  const title = `${kept} of its ${numTokens} tokens were kept`;
  return h("span", { class: "dots", title, role: "img", "aria-label": title }, ...dots);
}

// One recommended item; best: the highest score, which has the longest bar.
export function itemLine(item, best, onTake) {
  const share = item.score === null ? null : Math.exp(item.score - best);
  const score = item.score === null ? "popular" : item.score.toFixed(2);
  return h(
    "li", { "data-item": item.item_id },
    h("div", { class: "head" },
      h("span", { class: "name" }, nameOf(item)),
      h("span", { class: "score", title: "log-probability of the semantic ID" }, score),
      h("button", { type: "button", class: "quiet", "aria-label": `Add ${nameOf(item)} to the history`, onclick: onTake }, "+"),
    ),
    share === null ? null : h("meter", { min: 0, max: 1, value: share, "aria-label": "probability beside the best item's" }),
    item.sid ? h("div", { class: "sid" }, ...sidCodes(item)) : null,
  );
}

function sidCodes(item) {
  return item.sid.map((code, level) => {
    const logProb = item.level_log_probs && item.level_log_probs[level];
    const title = logProb === undefined ? undefined : `level ${level + 1}: log-probability ${logProb.toFixed(3)}`;
    return h("code", { title }, String(code));
  });
}

// What the caller should know beside the items.
export function badges(answer) {
  const told = [
    [answer.model.version, "version"],
    [answer.source === "popularity" ? "popular items: nothing is known of this user" : null, "warn"],
    [answer.short ? "fewer items than asked for exist" : null, "warn"],
    ...answer.degraded.map((what) => [`degraded: ${what}`, "warn"]),
    [answer.unknown_items.length ? `unknown: ${answer.unknown_items.join(", ")}` : null, "warn"],
  ];
  const kept = answer.explanation;
  if (kept) told.push([`${kept.tokens_kept} of ${kept.tokens_in} tokens kept`, "sap"]);
  return told.filter(([text]) => text).map(([text, kind]) => h("span", { class: `badge ${kind}` }, text));
}

// A bar of where the time went; SVG, because styles in attributes are not allowed here.
export function timingBar(timing) {
  const names = ["queue", "history", "model"].filter((name) => name in timing);
  const total = timing.total || names.reduce((sum, name) => sum + timing[name], 0);
  if (!total) return h("p");
  const svg = svgElement("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" });
  let begin = 0;
  for (const name of names) {
    const width = (100 * timing[name]) / total;
    svg.append(svgElement("rect", { x: begin, y: 0, width, height: 4, class: name }));
    begin += width;
  }
  const words = names.map((name) => `${name} ${timing[name].toFixed(1)} ms`);
  return h("figure", {}, svg, h("figcaption", {}, `${words.join(" · ")} · in all ${total.toFixed(1)} ms`));
}

function svgElement(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function problemText(problem) {
  const fields = (problem.errors || []).map((error) => `${error.pointer}: ${error.detail}`);
  const id = problem.request_id ? `request ${problem.request_id}` : null;
  return [problem.detail || problem.title, ...fields, id].filter(Boolean).map((line) => h("p", {}, line));
}
