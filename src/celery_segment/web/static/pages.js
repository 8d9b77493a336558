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
      time.title = time.textContent;
      time.textContent = when.toLocaleString(undefined, {
        year: "numeric", month: "2-digit", day: "2-digit",
        hour: "2-digit", minute: "2-digit", second: "2-digit",
      });
    }
  };

  // What each live part was last sent as: it is only replaced where that has changed.
  const sent = new Map();
  const renew = async () => {
    const response = await fetch(location.href, { headers: { "X-Segment-Live": "1" } });
    if (!response.ok && response.status !== 503) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of root.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (!other || sent.get(part.id) === other.innerHTML) continue;
      sent.set(part.id, other.innerHTML);
      const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
      localise(other);
      part.replaceChildren(...other.childNodes);
      if (focused) document.getElementById(focused)?.focus();
    }
    root.dispatchEvent(new CustomEvent("segment:renewed"));
  };

  const live = [...root.querySelectorAll("[data-live]")];
  for (const part of live) sent.set(part.id, part.innerHTML);
  localise(root);
  if (live.length) {
    const period = 1000 * Math.min(...live.map((part) => Number(part.dataset.live)));
    const turn = async () => {
      try {
        if (!document.hidden && !root.classList.contains("held")) await renew();
        root.classList.remove("away");
      } catch {
        root.classList.add("away"); // the server is gone: try again
      }
      setTimeout(turn, period);
    };
    setTimeout(turn, period);
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

  root.addEventListener("change", (event) => {
    const all = event.target.closest("[data-check-all]");
    if (!all) return;
    const boxes = all.closest("form").querySelectorAll(`input[name="${all.dataset.checkAll}"]`);
    for (const box of boxes) box.checked = all.checked;
  });
})();
