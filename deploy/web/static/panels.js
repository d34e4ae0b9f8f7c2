// Writes what the status says into tiles, bars and lists. Every key may be missing, and unknown ones are shown as they are.

const ELSEWHERE = ["loop"]; // in tiles and bars
const LINES = 200;

export const part = (status, name) => (status && typeof status[name] === "object" && status[name]) || {};
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const fixed = (value, digits) => (isNumber(value) ? value.toFixed(digits) : "–");
const words = (key) => String(key).replace(/_/g, " ");

export function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** All panels from an answer of /api/status. */
export function show(answer) {
  const {status, page} = answer;
  const newest = page.newest || {};
  tiles(status, newest);
  stages(part(status, "loop"), newest);
  heat(part(status, "heat"));
  const bundle = part(status, "bundle");
  document.getElementById("bundle").textContent = [bundle.name, bundle.version].filter((one) => one !== undefined).join(" ");
  others(status);
}

function tiles(status, newest) {
  const loop = part(status, "loop"), health = part(status, "heat"), link = part(status, "mavlink");
  const rate = isNumber(loop.rate) ? loop.rate : newest.rate;
  const frames = isNumber(loop.frames) ? loop.frames : newest.number;
  const dropped = isNumber(loop.dropped) ? loop.dropped : newest.dropped;
  const isLate = newest.is_current === false;
  const hottest = hot(health.temperatures);
  const rows = [
    ["Age at output", seconds(newest.published_age), isNumber(newest.limit) ? `limit ${seconds(newest.limit)}` : "", isLate ? "bad" : ""],
    ["Rate", `${fixed(rate, 1)} /s`, newest.network ? `network ${newest.network.join(" × ")}` : ""],
    ["Dropped", isNumber(frames) && isNumber(dropped) && frames + dropped ? `${fixed(100 * dropped / (frames + dropped), 1)} %` : "–",
      isNumber(dropped) ? `${dropped} of ${dropped + (frames || 0)}` : ""],
    ["In the picture", newest.tracks ? `${newest.tracks} tracked` : `${newest.detections ?? "–"} found`, newest.tracks ? `${newest.detections} found` : ""],
    ["Hottest", hottest ? `${fixed(hottest[1], 0)} °C` : "–", hottest ? hottest[0] : "no sensor told"],
    ["Health", health.rung ?? (isNumber(health.level) ? `level ${health.level}` : "–"), health.reason ?? "", health.level > 0 ? "warn" : ""],
    ["Autopilot", ...autopilot(link)],
  ];
  const made = rows.map(([name, value, more, level]) => {
    const tile = element("div");
    tile.dataset.level = level || "";
    tile.append(element("dt", name), element("dd", value));
    if (more) tile.lastChild.append(element("small", more));
    if (level === "bad") tile.firstChild.textContent = `▲ ${name}`;
    return tile;
  });
  document.getElementById("tiles").replaceChildren(...made);
}

function stages(loop, newest) {
  const times = loop.milliseconds || newest.milliseconds || {};
  const budgets = loop.budget_ms || {};
  const rows = Object.entries(times).map(([stage, value]) => {
    const [median, slow] = Array.isArray(value) ? value : [value, undefined];
    const budget = budgets[stage];
    const worst = isNumber(slow) ? slow : median;
    const isOver = isNumber(budget) && worst > budget;
    const text = `${fixed(median, 1)}${isNumber(slow) ? ` / ${fixed(slow, 1)}` : ""}${isNumber(budget) ? ` of ${budget}` : ""} ms${isOver ? " over" : ""}`;
    const scale = isNumber(budget) ? 1.5 * budget : 1.5 * Math.max(worst || 0, 1);
    return bar(stage, worst / scale, isNumber(budget) ? 1 / 1.5 : null, text, isOver);
  });
  if (rows.length) rows.push(element("p", "median / 99th percentile; the bar is the latter, the mark the budget", "empty"));
  fill("stages", rows, "no frame yet");
}

function heat(health) {
  const limits = health.limits || {};
  const rows = Object.entries(health.temperatures || {}).filter(([, value]) => isNumber(value)).map(([zone, value]) => {
    const limit = isNumber(limits[zone]) ? limits[zone] : null;
    const text = `${fixed(value, 1)}${limit ? ` of ${limit}` : ""} °C`;
    return bar(zone, value / 110, limit ? limit / 110 : null, text, limit !== null && value > limit);
  });
  fill("heat", rows, "no sensor told");
}

function bar(name, share, mark, text, isOver) {
  const row = element("div", undefined, isOver ? "row is-over" : "row");
  const track = element("div", undefined, "track");
  const length = element("i");
  length.style.width = `${100 * Math.max(0, Math.min(1, share || 0))}%`;
  track.append(length);
  if (mark) {
    const line = element("b");
    line.style.left = `calc(${100 * Math.min(1, mark)}% - 1.5px)`;
    track.append(line);
  }
  row.append(element("span", name), element("span", text, "figure"), track);
  return row;
}

function others(status) {
  const made = [];
  for (const [name, values] of Object.entries(status || {})) {
    if (ELSEWHERE.includes(name) || values === null || typeof values !== "object" || !Object.keys(values).length) continue;
    const list = element("dl", undefined, "facts");
    facts(list, name === "heat" ? {...values, temperatures: undefined, limits: undefined} : values);
    const section = element("section");
    section.append(element("h3", words(name)), list);
    made.push(section);
  }
  fill("parts", made, "no part told anything");
}

function facts(list, values) {
  const rows = Object.entries(values).filter(([, value]) => value !== undefined).map(([key, value]) => [element("dt", words(key)), element("dd", told(value))]);
  list.replaceChildren(...rows.flat());
}

function told(value) {
  if (value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (isNumber(value)) return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  if (Array.isArray(value)) return value.map(told).join(", ") || "–";
  if (typeof value === "object") return Object.entries(value).map(([key, one]) => `${words(key)} ${told(one)}`).join(" · ") || "–";
  return String(value);
}

/** Newest on top; an event is never shown twice, and old ones fall off. */
export function addEvents(events) {
  const list = document.getElementById("events");
  for (const one of events) {
    const line = element("li");
    line.dataset.level = one.level;
    const time = element("time", new Date(one.wall * 1000).toLocaleTimeString([], {hour12: false}));
    line.append(time, element("span", `${one.level === "info" ? "" : `▲ ${one.level} `}${one.kind}`, "kind"), element("span", one.text, "text"));
    list.prepend(line);
  }
  while (list.children.length > LINES) list.lastChild.remove();
}

function fill(id, rows, otherwise) {
  document.getElementById(id).replaceChildren(...(rows.length ? rows : [element("p", otherwise, "empty")]));
}

function hot(temperatures) {
  const rows = Object.entries(temperatures || {}).filter(([, value]) => isNumber(value));
  return rows.sort((one, other) => other[1] - one[1])[0];
}

/** [what, more, level] of the line to the autopilot. */
function autopilot(link) {
  if (link.open === undefined) return ["–", "", ""];
  if (!link.open) return ["no line", link.connection ?? "", "bad"];
  if (link.autopilot === null) return ["not heard", link.connection ?? "", "bad"];
  const sent = Object.values(link.sent || {}).filter(isNumber).reduce((sum, one) => sum + one, 0);
  return ["connected", `${sent} sent${link.health ? `, we say ${link.health}` : ""}`, link.health === "CRITICAL" ? "warn" : ""];
}

/** A time for people: milliseconds below a second, then seconds. */
export function seconds(value) {
  if (!isNumber(value)) return "–";
  if (value < 1) return `${Math.round(1000 * value)} ms`;
  return value < 100 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`;
}
