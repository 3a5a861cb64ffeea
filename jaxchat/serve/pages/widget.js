// A chat for any web page: <script src="https://YOUR-SERVER/widget.js" async></script>. See /widget for its options.
(() => {
  "use strict";
  const script = document.currentScript;
  const option = (name, otherwise) => script.dataset[name] ?? otherwise;
  const server = option("server", new URL(script.src).origin);
  const chinese = (option("language", navigator.language) || "").toLowerCase().startsWith("zh");
  const words = chinese
    ? { open: "打开聊天", close: "关闭", title: "在线客服", hello: "您好！有什么可以帮您？", ask: "请输入您的问题", send: "发送",
        stop: "停止", again: "重新开始", good: "有帮助", bad: "没帮助", failed: "现在无法回答，请稍后再试。", you: "您", it: "客服",
        thanks: "谢谢您的反馈" }
    : { open: "Open chat", close: "Close", title: "Chat with us", hello: "Hello! How can I help?", ask: "Ask a question",
        send: "Send", stop: "Stop", again: "Start over", good: "Helpful", bad: "Not helpful",
        failed: "There is no answer just now. Please try again.", you: "You", it: "Assistant", thanks: "Thank you" };
  const colour = option("color", "#3457d5");
  const side = option("side", "right") === "left" ? "left" : "right";
  const kept = `jaxchat-widget ${server}`;

  const css = `
    :host { all: initial; }
    * { box-sizing: border-box; }
    button, textarea { font: inherit; }
    .root { font: 15px/1.45 system-ui, -apple-system, "Segoe UI", "Noto Sans CJK SC", sans-serif; --paper: #fff; --ink: #1c2024; --soft: #f1f3f6; --line: #d9dde3; --mute: #626a75; color: var(--ink); }
    @media (prefers-color-scheme: dark) {
      .root { --paper: #1b1e23; --ink: #eceef1; --soft: #2a2f37; --line: #3a414c; --mute: #a3acb8; --ring: #b9c6ff; }
    }
    button { cursor: pointer; border: 0; background: none; color: inherit; padding: 0; }
    button:focus-visible, textarea:focus-visible { outline: 2px solid var(--ring, ${colour}); outline-offset: 2px; }
    .bubble { position: fixed; bottom: 20px; ${side}: 20px; width: 56px; height: 56px; border-radius: 28px; z-index: 2147483000;
      background: ${colour}; color: #fff; box-shadow: 0 4px 18px #0005; display: grid; place-items: center; }
    .bubble svg { width: 26px; height: 26px; }
    .panel { position: fixed; bottom: 88px; ${side}: 20px; width: 380px; height: min(600px, calc(100vh - 108px)); z-index: 2147483000;
      display: flex; flex-direction: column; background: var(--paper); border: 1px solid var(--line); border-radius: 14px;
      box-shadow: 0 12px 40px #0004; overflow: hidden; }
    .panel[hidden] { display: none; }
    header { display: flex; align-items: center; gap: 12px; padding: 12px 14px; background: ${colour}; color: #fff; }
    header b { flex: 1; font-weight: 600; }
    header button { opacity: .9; padding: 4px 6px; border-radius: 6px; }
    header button:hover { opacity: 1; background: #fff3; }
    .talk { flex: 1; overflow-y: auto; padding: 14px; display: flex; flex-direction: column; gap: 10px; }
    .turn { max-width: 86%; padding: 9px 12px; border-radius: 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
    .user { align-self: flex-end; background: ${colour}; color: #fff; border-bottom-right-radius: 4px; }
    .assistant { align-self: flex-start; background: var(--soft); border-bottom-left-radius: 4px; }
    .assistant:empty::after { content: "…"; color: var(--mute); }
    .markdown { white-space: normal; max-width: 94%; }
    .markdown > :first-child { margin-top: 0; }
    .markdown > :last-child { margin-bottom: 0; }
    .markdown :is(p, ul, ol, pre, table, blockquote) { margin: 0 0 8px; }
    .markdown :is(h1, h2, h3, h4, h5, h6) { font-size: 1em; margin: 12px 0 6px; }
    .markdown :is(ul, ol) { padding: 0; }
    .markdown li { margin-inline-start: 20px; }
    .markdown blockquote { border-inline-start: 3px solid var(--line); padding-inline-start: 10px; color: var(--mute); }
    .markdown a { color: inherit; }
    .markdown code { font: 0.9em ui-monospace, Menlo, Consolas, monospace; }
    .markdown pre { direction: ltr; overflow-x: auto; background: var(--paper); border-radius: 8px; padding: 8px 10px; overflow-wrap: normal; }
    .markdown table { display: block; overflow-x: auto; border-collapse: collapse; overflow-wrap: normal; }
    .markdown :is(th, td) { text-align: start; padding: 3px 10px 3px 0; border-bottom: 1px solid var(--line); }
    .markdown :is(th, td):last-child { min-width: 8em; padding-inline-end: 0; }
    .failed { align-self: center; color: var(--mute); font-size: 13px; }
    .thumbs { align-self: flex-start; display: flex; gap: 4px; margin-top: -6px; color: var(--mute); font-size: 13px; }
    .thumbs button { padding: 4px 6px; border-radius: 6px; line-height: 0; }
    .thumbs svg { width: 16px; height: 16px; }
    .thumbs button:hover, .thumbs button[aria-pressed=true] { background: var(--soft); color: var(--ink); }
    form { display: flex; gap: 8px; padding: 10px; border-top: 1px solid var(--line); }
    textarea { flex: 1; resize: none; border: 1px solid var(--line); border-radius: 10px; padding: 8px 10px; height: 42px;
      background: var(--paper); color: inherit; }
    form button { background: ${colour}; color: #fff; border-radius: 10px; padding: 0 14px; min-width: 68px; }
    form button:disabled { opacity: .45; cursor: default; }
    @media (max-width: 480px) {
      .panel { inset: 0; width: auto; height: auto; border: 0; border-radius: 0; }
      .panel:not([hidden]) + .bubble { display: none; }
    }`;

  const host = document.createElement("div");
  host.id = "jaxchat-widget";
  const shadow = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  shadow.adoptedStyleSheets = [sheet];

  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const label = (node, text) => (node.setAttribute("aria-label", text), (node.title = text), node);

  const talk = make("div", { className: "talk" });
  talk.setAttribute("role", "log");
  talk.setAttribute("aria-live", "polite");
  const field = label(make("textarea", { placeholder: words.ask, rows: 1, maxLength: 4000, dir: "auto" }), words.ask);
  const button = make("button", { type: "submit", textContent: words.send });
  const form = make("form", {}, field, button);
  const again = label(make("button", { type: "button", textContent: "↺" }), words.again);
  const close = label(make("button", { type: "button", textContent: "✕" }), words.close);
  const title = option("title", words.title);
  const panel = make("section", { className: "panel", hidden: true }, make("header", {}, make("b", { textContent: title }), again, close), talk, form);
  panel.setAttribute("role", "dialog");
  panel.setAttribute("aria-label", title);
  const bubble = label(make("button", { className: "bubble", type: "button" }), words.open);
  bubble.innerHTML = '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round"><path d="M4 5h16v11H9l-5 4z"/></svg>';
  shadow.append(make("div", { className: "root" }, panel, bubble));

  let messages = [];
  let asking = null;
  const read = () => { try { return JSON.parse(sessionStorage.getItem(kept)) || []; } catch { return []; } };
  const keep = () => { try { sessionStorage.setItem(kept, JSON.stringify(messages)); } catch { /* a page without storage */ } };
  const down = () => { talk.scrollTop = talk.scrollHeight; };
  const show = (role, text) => { const turn = make("div", { className: `turn ${role}`, textContent: text, dir: "auto" }); talk.append(turn); down(); return turn; };
  const headers = () => ({ "Content-Type": "application/json", ...(option("key") ? { Authorization: `Bearer ${option("key")}` } : {}) });
  const system = () => (option("system") ? [{ role: "system", content: option("system") }] : []);

  const thumb = down => `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round"><path${
    down ? ' transform="rotate(180 12 12)"' : ""} d="M7 11v9H3v-9zM7 11l4-8c2 0 3 1 3 3l-1 4h6c1.5 0 2.5 1 2 3l-1.5 5c-.3 1-1 2-2 2H7"/></svg>`;

  /** Shows an answer as Markdown, which the server renders, escaped; until it has, and where it does not, as it is. */
  function shower(turn) {
    let latest = "", busy = false;
    return async text => {
      latest = text;
      if (!turn.classList.contains("markdown")) turn.textContent = text;
      if (busy) return;
      busy = true;
      for (let shown = null; shown !== latest;) {
        shown = latest;
        const response = await fetch(`${server}/markdown`, { method: "POST", headers: headers(), body: JSON.stringify({ texts: [shown] }) }).catch(() => null);
        const html = response?.ok ? (await response.json()).html[0] : null;
        turn.classList.toggle("markdown", html !== null);
        if (html === null) turn.textContent = shown;
        else turn.innerHTML = html;
        down();
        if (shown !== latest) await new Promise(done => setTimeout(done, 150));
      }
      busy = false;
    };
  }

  function begin() {
    talk.replaceChildren();
    show("assistant", option("greeting", words.hello));
    for (const { role, content } of messages) {
      const turn = show(role, content);
      if (role === "assistant") shower(turn)(content);
    }
  }

  function thumbs(id, said) {
    const rate = rating => async event => {
      const chosen = event.currentTarget;
      const response = await fetch(`${server}/v1/feedback`, {
        method: "POST", headers: headers(), body: JSON.stringify({ id, rating, messages: said, ...(option("model") ? { model: option("model") } : {}) }),
      }).catch(() => null);
      if (!response?.ok) { row.remove(); return; }
      for (const one of row.querySelectorAll("button")) one.setAttribute("aria-pressed", String(one === chosen));
      chosen.title = words.thanks;
    };
    const up = label(make("button", { type: "button", innerHTML: thumb(false), onclick: rate("up") }), words.good);
    const bad = label(make("button", { type: "button", innerHTML: thumb(true), onclick: rate("down") }), words.bad);
    const row = make("div", { className: "thumbs" }, up, bad);
    talk.append(row);
    down();
  }

  /** Asks, and tells `hear` each piece of the answer; its id. */
  async function answer(hear) {
    const asked = [...system(), ...messages];
    const response = await fetch(`${server}/v1/chat/completions`, {
      method: "POST", headers: headers(), signal: asking.signal,
      body: JSON.stringify({ messages: asked, stream: true, ...(option("model") ? { model: option("model") } : {}) }),
    });
    if (!response.ok) throw new Error((await response.json().catch(() => null))?.error?.message ?? response.statusText);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", id = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
        const event = JSON.parse(line.slice(6));
        if (event.error) throw new Error(event.error.message);
        id = event.id;
        hear(event.choices[0]?.delta?.content ?? "");
      }
    }
    return id;
  }

  async function send(text) {
    const mine = messages;
    messages.push({ role: "user", content: text });
    show("user", text);
    const turn = show("assistant", ""), see = shower(turn);
    let said = "";
    asking = new AbortController();
    button.textContent = words.stop;
    let id = null;
    try {
      id = await answer(piece => {
        if (!piece) return;
        said += piece;
        see(said);
        down();
      });
    } catch (error) {
      if (error.name !== "AbortError") {
        console.error("jaxchat widget:", error);
        talk.append(make("div", { className: "failed", textContent: words.failed }));
      }
    }
    asking = null;
    button.textContent = words.send;
    if (messages !== mine) { ready(); return; } // started over meanwhile
    if (said) messages.push({ role: "assistant", content: said });
    else { turn.remove(); messages.pop(); field.value ||= text; }
    keep();
    if (id && said && option("thumbs", "yes") !== "no") thumbs(id, [...system(), ...messages]);
    ready();
    down();
  }

  const ready = () => { button.disabled = !asking && !field.value.trim(); };
  const submit = () => {
    if (asking) { asking.abort(); return; }
    const text = field.value.trim();
    if (!text) return;
    field.value = "";
    send(text);
  };
  form.addEventListener("submit", event => { event.preventDefault(); submit(); });
  field.addEventListener("input", ready);
  field.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); if (!asking) submit(); }
  });
  const toggle = open => { panel.hidden = !open; bubble.setAttribute("aria-expanded", String(open)); (open ? field : bubble).focus(); };
  bubble.addEventListener("click", () => toggle(panel.hidden));
  close.addEventListener("click", () => toggle(false));
  panel.addEventListener("keydown", event => { if (event.key === "Escape") toggle(false); });
  again.addEventListener("click", () => { asking?.abort(); messages = []; keep(); begin(); field.focus(); });

  messages = read();
  begin();
  ready();
  const mount = () => document.body.append(host);
  document.body ? mount() : addEventListener("DOMContentLoaded", mount);
})();
