"use strict";
// Shows what a part of a chart tells beside the pointer at once; without this script the browser shows it as a title.
const tip = document.getElementById("tip");
for (const title of document.querySelectorAll("svg.chart title.tip")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}
addEventListener("pointermove", (event) => {
  const part = event.target.closest?.("[data-tip]");
  tip.hidden = !part;
  if (!part) return;
  tip.textContent = part.dataset.tip;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const above = event.clientY + 18 + tip.offsetHeight > innerHeight;
  tip.style.left = `${Math.max(left, 8)}px`;
  tip.style.top = `${event.clientY + (above ? -tip.offsetHeight - 12 : 18)}px`;
});
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
