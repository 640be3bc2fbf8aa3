"use strict";
/* The index of experiments: a click on a head sorts the rows, and the filter hides rows. */
const filter = document.getElementById("filter"), body = document.querySelector("tbody"), rows = [...body.rows];
const heads = [...document.querySelectorAll("thead th")];

function compare(one, other, column, sign) { // an empty cell comes last in both orders
  const [a, b] = [one, other].map((row) => row.cells[column].dataset.key);
  if (!a || !b) return !a - !b;
  return sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b);
}

function sort(head) { // numbers: the highest first; names: A to Z; again: the other way round
  const usual = head.textContent === "Experiment" ? "ascending" : "descending";
  const order = head.ariaSort !== usual ? usual : usual === "ascending" ? "descending" : "ascending";
  for (const one of heads) one.ariaSort = one === head ? order : "none";
  body.append(...rows.sort((one, other) => compare(one, other, head.cellIndex, order === "ascending" ? 1 : -1)));
}

function search() {
  const words = filter.value.toLowerCase().split(/\s+/);
  for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  document.getElementById("count").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
}

for (const head of heads.slice(1)) head.firstChild.onclick = () => sort(head);
filter.oninput = search;
sort(heads.at(-1));
search();
