// Tables sort by a press of a heading: numbers by their value, the largest first, blanks always last.
(() => {
  const numeric = (heading) => heading.classList.contains("number");

  function key(row, column, heading) {
    const cell = row.cells[column];
    const text = cell.textContent.trim();
    if (!numeric(heading)) return text;
    return cell.dataset.sort === undefined ? null : Number(cell.dataset.sort);
  }

  function order(a, b) {
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  }

  function sort(table, heading) {
    const column = heading.cellIndex;
    const first = numeric(heading) ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = heading.getAttribute("aria-sort") === first ? other : first;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, key: key(row, column, heading) }));
    const blank = ({ key: value }) => value === null || value === "";
    const filled = rows.filter((each) => !blank(each)).sort((a, b) => order(a.key, b.key));
    if (direction === "descending") filled.reverse();
    body.append(...[...filled, ...rows.filter(blank)].map(({ row }) => row));
    for (const each of heading.parentElement.cells) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
  }

  for (const button of document.querySelectorAll("table.sortable th button")) {
    button.addEventListener("click", () => sort(button.closest("table"), button.parentElement));
  }
})();
