// The gallery: a range input over the picture moves the edge between reference and output.
(() => {
  for (const exhibit of document.querySelectorAll(".exhibit")) {
    const stack = exhibit.querySelector(".stack");
    const range = stack.querySelector("input");
    const cut = () => stack.style.setProperty("--cut", `${range.value}%`);
    range.addEventListener("input", cut);
    cut(); // a reloaded page may keep the input's value

    const toggle = exhibit.querySelector(".toggle");
    toggle?.addEventListener("click", () => {
      const on = toggle.getAttribute("aria-pressed") !== "true";
      toggle.setAttribute("aria-pressed", String(on));
      stack.classList.toggle("different", on);
      stack.querySelector(".difference").hidden = !on;
    });
  }
})();
