"use strict";
(() => {
  const root = document.documentElement;

  // Theme: as the system has it, until somebody chooses.
  const theme = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const showTheme = () => { theme.querySelector("span").textContent = root.dataset.theme || "auto"; };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % themes.length];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    try { localStorage.setItem("mvhg-theme", next); } catch { /* not kept */ }
    showTheme();
  });
  showTheme();

  // The panel that says where a number comes from.
  const panel = document.getElementById("panel");
  const [heading, words, facts] = ["strong", "p", "dl"].map((name) => panel.querySelector(name));
  let owner = null, pinned = false, waiting = 0;

  const place = (target) => {
    const box = target.getBoundingClientRect();
    const room = root.clientWidth - panel.offsetWidth - 12;
    const lowest = window.innerHeight - panel.offsetHeight - 8;
    const below = box.bottom + 8, above = box.top - panel.offsetHeight - 8;
    let left = box.left, top = below;
    if (below > lowest && above > 0) top = above;
    else if (below > lowest && box.right + 10 < room) [left, top] = [box.right + 10, Math.max(8, lowest)];
    panel.style.left = `${window.scrollX + Math.max(12, Math.min(left, room))}px`;
    panel.style.top = `${window.scrollY + top}px`;
  };
  const hide = (back) => {
    if (!owner) return;
    owner.removeAttribute("aria-expanded");
    owner.classList.remove("chosen");
    if (back) owner.focus({ preventScroll: true });
    owner = null;
    pinned = false;
    panel.hidden = true;
  };
  const show = (target, number, text, pin) => {
    const entry = document.getElementById(`source-${number}`);
    if (!entry) return;
    hide(false);
    owner = target;
    pinned = pin;
    heading.textContent = `Source ${number}`;
    words.textContent = text;
    facts.replaceChildren(...entry.querySelector("dl").cloneNode(true).children);
    target.setAttribute("aria-expanded", "true");
    if (text) target.classList.add("chosen");
    panel.hidden = false;
    place(target);
  };
  const found = (element) => {
    const link = element.closest("a.source");
    if (link) return [link, link.hash.slice("#source-".length), ""];
    const point = element.closest(".point");
    return point ? [point, point.dataset.source, point.dataset.text] : null;
  };

  document.addEventListener("click", (event) => {
    if (panel.contains(event.target)) {
      if (event.target.closest("button")) hide(true);
      return;
    }
    let hit = found(event.target);
    if (!hit && !event.target.closest("a, button, summary, select") && getSelection().isCollapsed) {
      const link = event.target.closest("tbody tr")?.querySelector("a.source");
      if (link) hit = found(link);
    }
    if (!hit) { hide(false); return; }
    event.preventDefault();
    if (owner === hit[0] && pinned) { hide(false); return; }
    show(...hit, true);
    if (event.detail === 0) panel.focus({ preventScroll: true });  // from the keyboard
  });
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse") return;
    clearTimeout(waiting);
    if (pinned || panel.contains(event.target)) return;
    const hit = found(event.target);
    waiting = setTimeout(() => { if (hit) show(...hit, false); else hide(false); }, hit ? 120 : 250);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(pinned); });
  window.addEventListener("resize", () => hide(false));

  // Filters of the claims.
  const form = document.querySelector(".filters");
  if (form) {
    const claims = [...document.querySelectorAll(".claim")];
    const counts = [...document.querySelectorAll(".count")];
    const names = ["verdict", "outcome", "room", "whose"];
    const apply = () => {
      let shown = 0;
      for (const claim of claims) {
        const has = { ...claim.dataset, room: claim.parentElement.dataset.room };
        claim.hidden = names.some((name) => form[name].value && form[name].value !== has[name]);
        shown += !claim.hidden;
      }
      for (const body of document.querySelectorAll(".claims tbody")) body.hidden = !body.querySelector(".claim:not([hidden])");
      for (const count of counts) {
        const pressed = form.whose.value === "paper" && form.verdict.value === count.dataset.verdict;
        count.setAttribute("aria-pressed", String(pressed));
      }
      form.querySelector("output").textContent = `${shown} of ${claims.length} claims`;
    };
    form.hidden = false;
    form.addEventListener("change", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const count of counts) {
      count.addEventListener("click", () => {
        const pressed = count.getAttribute("aria-pressed") === "true";
        form.verdict.value = pressed ? "" : count.dataset.verdict;
        form.whose.value = pressed ? "" : "paper";
        apply();
      });
    }
    apply();
    window.addEventListener("beforeprint", () => form.reset());
  }

  const contents = document.querySelector(".contents");
  if (matchMedia("(max-width: 67.99rem)").matches) contents.open = false;
  const opened = [];
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) { details.open = true; opened.push(details); }
    for (const image of document.images) image.loading = "eager";
  });
  window.addEventListener("afterprint", () => { for (const details of opened.splice(0)) details.open = false; });
})();
