// A link to a record, or to a case of one, opens what folds it away.
(() => {
  function open() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let each = target; each; each = each.parentElement) {
      if (each instanceof HTMLDetailsElement) each.open = true;
    }
    target.scrollIntoView();
  }
  addEventListener("hashchange", open);
  open();
})();
