(function () {
  "use strict";
  var root = document.documentElement;
  var dark = window.matchMedia("(prefers-color-scheme: dark)");

  function remembered() {
    try {
      var theme = localStorage.getItem("nbpaper-theme");
      return theme === "dark" || theme === "light" ? theme : null;
    } catch (error) { return null; }
  }

  function remember(theme) {
    try { localStorage.setItem("nbpaper-theme", theme); } catch (error) { /* pages opened from disk may have no storage */ }
  }

  var themeButton = document.getElementById("theme");
  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
  }
  function nameTheme() {
    themeButton.textContent = isDark() ? "Light" : "Dark";
  }
  if (remembered()) { root.dataset.theme = remembered(); }
  themeButton.hidden = false;
  themeButton.addEventListener("click", function () {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    nameTheme();
  });
  dark.addEventListener("change", nameTheme);
  nameTheme();

  var codeButton = document.getElementById("code");
  var folds = document.querySelectorAll("details.code");
  codeButton.hidden = folds.length === 0;
  codeButton.addEventListener("click", function () {
    var open = codeButton.getAttribute("aria-pressed") !== "true";
    folds.forEach(function (fold) { fold.open = open; });
    codeButton.setAttribute("aria-pressed", String(open));
    codeButton.textContent = open ? "Hide all code" : "Show all code";
  });

  var contents = document.querySelector("nav.contents details");
  if (contents && window.innerWidth < 1180) { contents.open = false; }

  // Only boxes that do scroll are stops of the Tab key.
  var boxes = document.querySelectorAll('[tabindex="0"]');
  function measure() {
    boxes.forEach(function (box) {
      if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) {
        box.tabIndex = 0;
      } else {
        box.removeAttribute("tabindex");
      }
    });
  }
  window.addEventListener("resize", measure);
  document.addEventListener("toggle", measure, true);
  measure();

  // The contents follow the reader: the last heading above the upper quarter of the window is the current one.
  var links = Array.prototype.slice.call(document.querySelectorAll("nav.contents a"));
  var headings = links.map(function (link) { return document.getElementById(decodeURIComponent(link.hash.slice(1))); });
  var current = null;
  var waiting = false;
  function follow() {
    waiting = false;
    var found = -1;
    headings.forEach(function (heading, index) {
      if (heading && heading.getBoundingClientRect().top < window.innerHeight / 4) { found = index; }
    });
    var atEnd = window.innerHeight + window.scrollY >= root.scrollHeight - 2;
    var link = links[atEnd && window.scrollY > 0 ? links.length - 1 : found] || null;
    if (link === current) { return; }
    if (current) { current.removeAttribute("aria-current"); }
    if (link) { link.setAttribute("aria-current", "true"); }
    current = link;
  }
  window.addEventListener("scroll", function () {
    if (!waiting) { waiting = true; window.requestAnimationFrame(follow); }
  }, { passive: true });
  follow();
})();
