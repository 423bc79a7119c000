-- Numbers headings, figures, tables and equations in order of appearance, and resolves what refers to them.
--
-- In JupyterLab all of it is an ordinary link: `[the table](#cell-id=tbl-x)` leads to the cell of that id, and becomes
-- "Table 1"; `[Hu et al. 2022](address)` leads to a source, and here to its entry in the bibliography of that address.

local equations = require 'equations'
local headings = require 'headings'

local labels = {}
local PROBLEM = 'nbpaper problem: '
local WORDS = {fig = 'Figure', tbl = 'Table', eq = 'Equation'}

local numbers = {}                       -- label -> "Figure 3"
local counts = {fig = 0, tbl = 0, eq = 0}
local identifiers = {}                   -- everything a link inside the paper may point to
local problems = pandoc.List {}
local absent = {}                        -- labels of cells that made no figure or table

local function problem(cell, text)
  problems:insert((cell == 0 and 'abstract: ' or 'cell ' .. cell .. ': ') .. text)
end

local function word_of(label)
  return WORDS[label:match('^(%a+)%-')]
end

-- A figure or table on its way: a Div of the body's blocks and a last Div with the caption.
function labels.float(label, body, caption, options)
  local content = pandoc.Blocks(body)
  content:insert(pandoc.Div(caption, {class = 'paper-caption'}))
  local full, long = tostring(options.full == true), tostring(options.long == true)
  return pandoc.Div(content, {id = label, class = 'paper-float', full = full, long = long})
end

local function number(div, cell)
  local label = div.identifier
  if numbers[label] then problem(cell, "label '" .. label .. "' is used twice") end
  local kind = label:match('^%a+')
  counts[kind] = counts[kind] + 1
  numbers[label] = WORDS[kind] .. ' ' .. counts[kind]
  identifiers[label] = true
  div.attributes.number = tostring(counts[kind])
  return div, false
end

local function unique(identifier)
  local candidate, count = identifier, 0
  while candidate ~= '' and identifiers[candidate] do
    count = count + 1
    candidate = identifier .. '-' .. count
  end
  return candidate
end

-- What headings.lua asks and tells.
local book = {
  problem = problem,
  anchor = function(label)
    local anchor = unique(label)
    identifiers[anchor] = true
    return anchor
  end,
}

function labels.number(parts, target, left_out)
  for _, label in ipairs(left_out) do absent[label] = true end
  local number_heading = headings.numberer(parts, target, book)
  for _, part in ipairs(parts) do
    part.blocks = part.blocks:walk {
      traverse = 'topdown',
      Header = function(heading) return number_heading(heading, part) end,
      Div = function(div)
        local is_equation = div.classes:includes('paper-equation')
        if div.classes:includes('paper-float') then return number(div, part.cell) end
        if is_equation and word_of(div.identifier) then return number(div, part.cell) end
        if is_equation then return div, false end
        if div.identifier ~= '' then identifiers[div.identifier] = true end
      end,
      Span = function(span) if span.identifier ~= '' then identifiers[span.identifier] = true end end,
    }
  end
end

-- A figure or table that its cell left out has no number, and nothing to link to.
local function reference(id, cell)
  local label = pandoc.List {id, 'fig-' .. id, 'tbl-' .. id}:find_if(function(name)
    return numbers[name] or absent[name]
  end)
  if not label then problem(cell, "a link leads to '" .. id .. "', which names no figure, table or equation") end
  if absent[label] and not numbers[label] then return pandoc.Str(word_of(label) .. '\u{a0}(left\u{a0}out)') end
  local name = (numbers[label] or id):gsub(' ', '\u{a0}')
  return pandoc.Link(pandoc.Inlines(name), '#' .. (label or id), '', {class = 'reference'})
end

-- A PDF is handed on alone: the files that a relative link leads to stay behind.
local function resolve_link(link, cell, target, sources, cited)
  local id, key = link.target:match('^#cell%-id=(.+)$'), sources[link.target]
  if id then return reference(id, cell) end
  if key then
    cited[key] = true
    link.target = '#ref-' .. key
    return link
  end
  local label = link.target:match('^#(.+)$')
  local beside = not label and not link.target:match('^%a[%w+.-]*:') and not link.target:match('^//')
  if (label and not identifiers[label]) or (beside and target == 'typst') then return link.content end
end

local function resolve_tex(raw, cell)
  local label = raw.format:match('tex') and (raw.text:match('^\\eqref{([^}]*)}') or raw.text:match('^\\ref{([^}]*)}'))
  if label then return reference(equations.normal(label), cell) end
end

-- What citeproc is to list, cited or not; `*` stands for all.
local function nocite(keys)
  return pandoc.Inlines {pandoc.Cite({}, keys:map(function(key) return pandoc.Citation(key, 'NormalCitation') end))}
end

-- Where the entries of the bibliography can be read: address -> key.
local function addresses(meta)
  local found = {}
  meta.nocite = nocite(pandoc.List {'*'})
  for _, entry in ipairs(pandoc.utils.references(pandoc.Pandoc({}, meta))) do
    if entry.url then found[entry.url] = entry.id end
    if entry.doi then found['https://doi.org/' .. entry.doi] = entry.id end
  end
  return found
end

local function stop_on_problems()
  if #problems == 0 then return end
  table.sort(problems)
  for _, text in ipairs(problems) do io.stderr:write(PROBLEM .. text .. '\n') end
  os.exit(65, true)
end

-- The bibliography, where something is cited.
local function add_bibliography(document, target, cited)
  local keys = pandoc.List {}
  for key in pairs(cited) do keys:insert(key) end
  if #keys == 0 then return document end
  document.meta.nocite = nocite(keys)
  document.blocks:insert(pandoc.Header(target == 'html' and 2 or 1, 'References', {id = 'references', class = 'unnumbered'}))
  document.blocks:insert(pandoc.Div({}, {id = 'refs'}))
  return pandoc.utils.citeproc(document)
end

function labels.resolve(parts, meta, target)
  local sources, cited = addresses(meta), {}
  local document = pandoc.Pandoc({}, meta)
  for index, part in ipairs(parts) do
    local cell = part.cell
    local resolved = part.blocks:walk {
      Link = function(link) return resolve_link(link, cell, target, sources, cited) end,
      RawInline = function(raw) return resolve_tex(raw, cell) end,
    }
    if index == 1 then
      if #resolved > 0 then document.meta.abstract = resolved end
    else
      document.blocks:extend(resolved)
    end
  end
  stop_on_problems()
  return add_bibliography(document, target, cited)
end

return labels
