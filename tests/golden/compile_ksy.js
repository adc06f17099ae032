// node compile_ksy.js FORMAT.ksy FOLDER: writes a parser in Python. Needs the npm packages
// kaitai-struct-compiler and js-yaml.
const fs = require("fs");
const path = require("path");
const compiler = require("kaitai-struct-compiler");
const yaml = require("js-yaml");

const [source, folder] = process.argv.slice(2);
compiler.compile("python", yaml.load(fs.readFileSync(source, "utf8")), null, false).then(
  (files) => {
    for (const name in files) fs.writeFileSync(path.join(folder, name), files[name]);
  },
  (error) => {
    console.error(String(error));
    process.exit(1);
  },
);
