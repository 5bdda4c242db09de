// Light or dark: the system's choice until the button makes one, which is kept for the next visit.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");

  const kept = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const keep = (theme) => { try { localStorage.setItem("theme", theme); } catch { /* private window */ } };
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  function show() {
    button.setAttribute("aria-pressed", String(dark()));
    root.dispatchEvent(new Event("themechange"));
  }

  if (kept() === "dark" || kept() === "light") root.dataset.theme = kept();
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    keep(root.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
})();
