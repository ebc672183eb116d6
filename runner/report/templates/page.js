for (const heading of document.querySelectorAll("table.sortable thead tr:last-child th")) {
  heading.querySelector("button").addEventListener("click", () => {
    const table = heading.closest("table"), column = heading.cellIndex;
    const down = heading.getAttribute("aria-sort") !== "descending";
    for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => { const number = parseFloat(row.cells[column].dataset.value); return isNaN(number) ? (down ? -Infinity : Infinity) : number; };
    for (const body of table.tBodies) {
      const rows = [...body.rows].slice(1);
      rows.sort((a, b) => (down ? value(b) - value(a) : value(a) - value(b)) || 0);
      body.append(...rows);
    }
  });
}
addEventListener("beforeprint", () => { for (const item of document.querySelectorAll("details")) item.open = true; });
