-- Numbers headings, figures, tables and equations in order of appearance, and resolves what refers to them.

local equations = require 'equations'
local headings = require 'headings'

local labels = {}
local PROBLEM = 'nbpaper problem: '
local WORDS = {fig = 'Figure', tbl = 'Table', eq = 'Equation', sec = 'Section'}

local numbers = {}                       -- label -> "Figure 3"
local counts = {fig = 0, tbl = 0, eq = 0}
local identifiers = {}                   -- everything a link inside the paper may point to
local problems = pandoc.List {}
local absent = {}                        -- labels of cells that made no figure or table

local function problem(cell, text)
  problems:insert((cell == 0 and 'abstract: ' or 'cell ' .. cell .. ': ') .. text)
end

local function kind_of(label)
  return label:match('^(%a+)%-') and WORDS[label:match('^(%a+)%-')] and label:match('^(%a+)%-')
end

-- A figure or table on its way: a Div of the body's blocks and a last Div with the caption.
function labels.float(label, body, caption, options)
  local content = pandoc.Blocks(body)
  content:insert(pandoc.Div(caption, {class = 'paper-caption'}))
  local full, long = tostring(options.full == true), tostring(options.long == true)
  return pandoc.Div(content, {id = label, class = 'paper-float', full = full, long = long})
end

local function number(label, cell)
  if numbers[label] then problem(cell, "label '" .. label .. "' is used twice") end
  local kind = kind_of(label)
  counts[kind] = counts[kind] + 1
  numbers[label] = WORDS[kind] .. ' ' .. counts[kind]
  identifiers[label] = true
  return tostring(counts[kind])
end

local function number_float(div, cell)
  div.attributes.number = number(div.identifier, cell)
  return div, false
end

-- A Markdown table or image with a caption and a label is a float like any other.
local function table_float(element)
  local caption, label = element.caption.long, element.attr.identifier
  if kind_of(label) ~= 'tbl' then return nil end
  element.caption, element.attr = pandoc.Caption(), pandoc.Attr('', {'typst:no-figure'})
  return labels.float(label, {element}, caption, {})
end

local function figure_float(element)
  local caption, label = element.caption.long, element.attr.identifier
  if kind_of(label) ~= 'fig' then return nil end
  return labels.float(label, element.content, caption, {full = element.attr.attributes.span == 'full'})
end

local function number_equation(div, cell)
  if kind_of(div.identifier) == 'eq' then div.attributes.number = number(div.identifier, cell) end
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
  name = function(label, text, cell)
    if kind_of(label) ~= 'sec' then return end
    if numbers[label] then problem(cell, "label '" .. label .. "' is used twice") end
    numbers[label] = text
  end,
}

function labels.number(parts, target, left_out)
  for _, label in ipairs(left_out) do absent[label] = true end
  local number_heading = headings.numberer(parts, target, book)
  for _, part in ipairs(parts) do
    part.blocks = part.blocks:walk {Table = table_float, Figure = figure_float}
    part.blocks = part.blocks:walk {
      traverse = 'topdown',
      Header = function(heading) return number_heading(heading, part.cell) end,
      Div = function(div)
        if div.classes:includes('paper-float') then return number_float(div, part.cell) end
        if div.classes:includes('paper-equation') then return number_equation(div, part.cell) end
        if div.identifier ~= '' then identifiers[div.identifier] = true end
      end,
      Span = function(span) if span.identifier ~= '' then identifiers[span.identifier] = true end end,
    }
  end
end

-- A figure or table that its cell left out has no number, and nothing to link to.
local function reference(label, cell)
  if absent[label] and not numbers[label] then return pandoc.Str(WORDS[kind_of(label)] .. '\u{a0}(left\u{a0}out)') end
  if not numbers[label] then problem(cell, "unknown reference '@" .. label .. "'") end
  local name = (numbers[label] or label):gsub(' ', '\u{a0}')
  return pandoc.Link(pandoc.Inlines(name), '#' .. label, '', {class = 'reference'})
end

-- `@fig-a` and `[@fig-a; @tbl-b]` become links; what is left of the citation goes to citeproc.
local function resolve_cite(cite, cell, cited)
  local links = pandoc.Inlines {}
  for _, citation in ipairs(cite.citations) do
    if kind_of(citation.id) then
      if #links > 0 then links:extend {pandoc.Str(','), pandoc.Space()} end
      links:insert(reference(citation.id, cell))
    else
      cited[citation.id] = cited[citation.id] or cell
    end
  end
  if #links > 0 then return links end
end

-- A PDF is handed on alone: the files that a relative link leads to stay behind.
local function resolve_link(link, target)
  local label = link.target:match('^#(.+)$')
  local beside = not label and not link.target:match('^%a[%w+.-]*:') and not link.target:match('^//')
  if (label and not identifiers[label]) or (beside and target == 'typst') then return link.content end
end

local function resolve_tex(raw, cell)
  local label = raw.format:match('tex') and (raw.text:match('^\\eqref{([^}]*)}') or raw.text:match('^\\ref{([^}]*)}'))
  if label then return reference(equations.normal(label), cell) end
end

local function check_citations(document, cited)
  local known = {}
  for _, entry in ipairs(pandoc.utils.references(document)) do known[entry.id] = true end
  for key, cell in pairs(cited) do
    if not known[key] then
      local where = document.meta.bibliography and 'is not in the bibliography'
        or 'needs a bibliography in the front matter'
      problem(cell, "citation '@" .. key .. "' " .. where .. ' (write \\@' .. key .. ' for plain text)')
    end
  end
end

local function stop_on_problems()
  if #problems == 0 then return end
  table.sort(problems)
  for _, text in ipairs(problems) do io.stderr:write(PROBLEM .. text .. '\n') end
  os.exit(65, true)
end

-- The References heading, and the bibliography after it; both only if something is cited.
local function place_bibliography(document, target)
  local blocks = document.blocks
  for index, block in ipairs(blocks) do
    if block.t == 'Header' and headings.is_references(block) then
      blocks:insert(index + 1, pandoc.Div({}, {id = 'refs'}))
      return
    end
  end
  blocks:insert(pandoc.Header(target == 'html' and 2 or 1, 'References', {id = 'references', class = 'unnumbered'}))
  blocks:insert(pandoc.Div({}, {id = 'refs'}))
end

function labels.resolve(parts, meta, target)
  local document, cited = pandoc.Pandoc({}, meta), {}
  for index, part in ipairs(parts) do
    local cell = part.cell
    local resolved = part.blocks:walk {
      Cite = function(cite) return resolve_cite(cite, cell, cited) end,
      Link = function(link) return resolve_link(link, target) end,
      RawInline = function(raw) return resolve_tex(raw, cell) end,
    }
    if index == 1 then
      if #resolved > 0 then document.meta.abstract = resolved end
    else
      document.blocks:extend(resolved)
    end
  end
  check_citations(document, cited)
  stop_on_problems()
  if next(cited) then
    place_bibliography(document, target)
    document = pandoc.utils.citeproc(document)
  end
  return document
end

return labels
