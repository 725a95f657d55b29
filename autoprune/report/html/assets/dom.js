// Making elements. Text of the model gets in as text and attributes only, never as markup.

const $ = id => document.getElementById(id);
const make = (tag, cls, text, parent) => {
  const element = document.createElement(tag);
  if (cls) element.className = cls;
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
};
const draw = (tag, attributes, parent) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
};
const hue = group => Math.round((group * 137.508 + 211) % 360);
document.documentElement.classList.add("js");
