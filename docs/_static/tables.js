// Show the tables that are too wide for the screen as lists: see tables.css.
"use strict";

/** The greatest number of columns of a table that is shown as a list. */
const COLUMNS = 4;
const phone = window.matchMedia("(max-width: 46rem)");

function nameCells(table) {
  const names = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, place) => {
      if (names[place] && cell.textContent.trim()) {
        cell.dataset.column = names[place];
      }
    });
  }
  return names.length;
}

function fitTables(wrappers) {
  for (const wrapper of wrappers) {
    wrapper.classList.remove("stacked");
    const isTooWide = wrapper.scrollWidth > wrapper.clientWidth;
    wrapper.classList.toggle("stacked", phone.matches && isTooWide);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const wrappers = [...document.querySelectorAll(".table-wrapper")].filter(
    (wrapper) => nameCells(wrapper.querySelector("table")) <= COLUMNS,
  );
  fitTables(wrappers);
  window.addEventListener("resize", () => fitTables(wrappers));
});
