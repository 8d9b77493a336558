// What the pages of the panel and of the debugger do in a browser. They work without it, too,
// but for copying, for times in the visitor's zone, and for renewing themselves.
"use strict";

(() => {
  const root = document.querySelector(".segment");
  if (!root) return;

  const localise = (within) => {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const when = new Date(time.dateTime);
      if (Number.isNaN(when.getTime())) continue;
      const day = { year: "numeric", month: "2-digit", day: "2-digit" };
      const clock = { hour: "2-digit", minute: "2-digit" };
      const second = { second: "2-digit" };
      const text = when.toLocaleString(undefined, { ...day, ...clock, ...second });
      if ("ago" in time.dataset) {
        time.title = text;
      } else if ("clock" in time.dataset) {
        const precise = { hourCycle: "h23", fractionalSecondDigits: 3 };
        time.title = time.textContent;
        time.textContent = when.toLocaleTimeString(
          undefined, { ...clock, ...second, ...precise },
        );
      } else if ("short" in time.dataset) {
        time.title = text;
        time.textContent = when.toLocaleTimeString(undefined, clock);
      } else {
        time.title = time.textContent;
        time.textContent = text;
      }
    }
  };

  // What keeps the page from being renewed is told above its first live part.
  const tell = (text) => {
    let notice = root.querySelector("[data-notice]");
    if (!text) {
      notice?.remove();
      return;
    }
    if (!notice) {
      notice = document.createElement("p");
      notice.className = "done failed";
      notice.dataset.notice = "";
      notice.setAttribute("role", "status");
      root.querySelector("[data-live]").before(notice);
    }
    if (notice.textContent !== text) notice.textContent = text;
  };

  // What each live part was last sent as: it is only replaced where that has changed, and where
  // nobody selects text in it.
  const sent = new Map();
  const isSelected = (part) => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  };
  // Where a page has versions, it is only sent when it has changed, and may be waited for.
  let version = { of: "", tag: "" };
  let asking;
  const renew = async () => {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    const address = location.href;
    const headers = { "X-Segment-Live": "1", Prefer: "wait=5" };
    if (version.of === address && version.tag) headers["If-None-Match"] = version.tag;
    const response = await fetch(address, { headers, signal });
    if (response.status === 304) {
      tell("");
      return;
    }
    const tag = response.headers.get("ETag") ?? "";
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (signal.aborted) return; // the address has changed meanwhile
    version = { of: address, tag };
    const problem = fresh.getElementById("unavailable");
    const wasAway = root.querySelector("#unavailable");
    if (wasAway && response.ok) {
      location.reload();
      return;
    }
    let found = Boolean(problem);
    for (const part of root.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (!other) continue;
      found = true;
      if (sent.get(part.id) === other.innerHTML) continue;
      if (isSelected(part)) {
        version.tag = ""; // to be sent it again
        continue;
      }
      sent.set(part.id, other.innerHTML);
      const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
      localise(other);
      part.replaceChildren(...other.childNodes);
      if (focused) document.getElementById(focused)?.focus();
    }
    if (problem && !wasAway) tell(problem.textContent.trim());
    else tell(found ? "" : "This is not renewed any more: load the page again.");
    root.dispatchEvent(new CustomEvent("segment:renewed"));
  };

  const attempt = async () => {
    try {
      await renew();
    } catch (error) {
      // Either asked anew, or the server is gone: then it is tried again.
      if (error.name !== "AbortError") tell("This server does not answer. The page goes on trying.");
    }
  };

  const live = [...root.querySelectorAll("[data-live]")];
  for (const part of live) sent.set(part.id, part.innerHTML);
  localise(root);
  if (live.length) {
    const period = 1000 * Math.min(...live.map((part) => Number(part.dataset.live)));
    const turn = async () => {
      if (!document.hidden && !root.classList.contains("held")) await attempt();
      setTimeout(turn, period);
    };
    setTimeout(turn, period);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && !root.classList.contains("held")) attempt();
    });
  }

  root.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = button.parentElement.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy by hand";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  root.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });

  // A form whose fields renew the page as they change: they become its address.
  const go = async (address, how) => {
    history[how](null, "", address);
    await attempt();
  };
  const form = root.querySelector("[data-live-form]");
  let waiting;
  form?.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const fields = [...new FormData(form)].filter(([, value]) => value.trim());
      go(`${form.action}?${new URLSearchParams(fields)}`, "replaceState");
    }, 150);
  });
  form?.addEventListener("submit", (event) => event.preventDefault());
  for (const button of form?.querySelectorAll("[data-without-script]") ?? []) button.hidden = true;

  // Links that open something beside the list, or in its place, without leaving it.
  const opened = document.getElementById("opened");
  let left = 0;
  root.addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-beside]");
    const other = event.metaKey || event.ctrlKey || event.shiftKey || event.button;
    if (!link || other || !opened) return;
    event.preventDefault();
    if (!opened.querySelector("article")) left = scrollY;
    await go(link.href, "pushState");
    const article = opened.querySelector("article");
    if (!article) scrollTo(0, left);
    else if (article.getBoundingClientRect().top < 0) article.scrollIntoView();
  });
  addEventListener("popstate", () => {
    const fields = new URLSearchParams(location.search);
    for (const field of form?.elements ?? []) {
      if (field.type === "checkbox") field.checked = fields.has(field.name);
      else if (field.name) field.value = fields.get(field.name) ?? "";
    }
    if (live.length) attempt();
  });

  const hold = root.querySelector("[data-hold]");
  if (hold) hold.hidden = false;
  hold?.addEventListener("click", () => {
    const held = root.classList.toggle("held");
    if (held) asking?.abort();
    hold.textContent = held ? "Go on" : "Pause";
    hold.setAttribute("aria-pressed", held);
  });

  // Keys: "/" to search, j and k (or the arrows) from row to row, Escape to close what is open.
  const step = (by) => {
    const links = [...root.querySelectorAll("a[data-beside]:not([data-close])")];
    const current = links.indexOf(document.activeElement);
    const open = links.findIndex((link) => link.ariaCurrent === "true");
    links[Math.max((current < 0 ? open : current) + by, 0)]?.focus();
  };
  const keys = {
    "/": () => root.querySelector("[data-key='/']")?.focus(),
    j: () => step(1), ArrowDown: () => step(1),
    k: () => step(-1), ArrowUp: () => step(-1),
    Escape: () => root.querySelector("[data-close]")?.click(),
  };
  addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    const act = keys[event.key];
    if (typing && event.key === "Escape") typing.blur();
    if (!act || typing || event.metaKey || event.ctrlKey || event.altKey) return;
    if (event.key.startsWith("Arrow") && !event.target.closest("a[data-beside]")) return;
    event.preventDefault();
    act();
  });

  root.addEventListener("change", (event) => {
    const all = event.target.closest("[data-check-all]");
    if (!all) return;
    const boxes = all.closest("form").querySelectorAll(`input[name="${all.dataset.checkAll}"]`);
    for (const box of boxes) box.checked = all.checked;
  });
})();
