try {
  const kept = localStorage.getItem("mvhg-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch { /* a page from disk may have no storage */ }
