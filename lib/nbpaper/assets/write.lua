-- Writes floats, equations and tables for the target; everything else pandoc writes itself.

local write = {}

local function typst_string(text)
  return '"' .. text:gsub('\\', '\\\\'):gsub('"', '\\"'):gsub('%s+', ' ') .. '"'
end

local function parts_of(float)
  local body = pandoc.Blocks(float.content)
  local caption = body:remove().content
  local is_table = float.identifier:match('^tbl') ~= nil
  return body, caption, is_table, (is_table and 'Table ' or 'Figure ') .. float.attributes.number
end

-- Puts inlines in front of a caption's first paragraph.
local function led(caption, lead)
  local first = caption[1]
  if first and (first.t == 'Para' or first.t == 'Plain') then
    first.content = lead .. first.content
  else
    caption:insert(1, pandoc.Plain(lead))
  end
  return caption
end

local html = {}

function html.float(float)
  local body, caption, is_table, name = parts_of(float)
  local classes = (is_table and 'table' or 'figure') .. (float.attributes.full == 'true' and ' full' or '')
  local lead = pandoc.Inlines {pandoc.Strong(name .. '.'), pandoc.Space()}
  local opening = string.format('<figure id="%s" class="%s">', float.identifier, classes)
  local blocks = pandoc.Blocks {pandoc.RawBlock('html', opening)}
  local figcaption = pandoc.Blocks {pandoc.RawBlock('html', '<figcaption>')}
  figcaption:extend(led(caption, lead))
  figcaption:insert(pandoc.RawBlock('html', '</figcaption>'))
  if is_table then blocks:extend(figcaption) end
  local scrolls = not is_table and float.attributes.full == 'true'
  if scrolls then
    local box = string.format('<div class="figure-scroll" role="group" aria-label="%s" tabindex="0">', name)
    body:insert(1, pandoc.RawBlock('html', box))
    body:insert(pandoc.RawBlock('html', '</div>'))
  end
  blocks:extend(body)
  if not is_table then blocks:extend(figcaption) end
  blocks:insert(pandoc.RawBlock('html', '</figure>'))
  return blocks
end

function html.equation(div)
  div.classes = {'equation'}
  div.attributes.role, div.attributes['aria-label'], div.attributes.tabindex = 'group', 'Equation', '0'  -- it scrolls
  if div.attributes.number then
    local number = pandoc.Span('(' .. div.attributes.number .. ')', {class = 'equation-number'})
    div.content:insert(pandoc.Plain {number})
    div.attributes.number = nil
  end
  return div
end

-- The rows of a table of more than three columns become cards on a phone: each cell carries the heading of its column.
function html.table(element)
  local head = element.head.rows[1]
  if head and #head.cells > 3 then
    element.attr.classes:insert('cards')
    for _, body in ipairs(element.bodies) do
      for _, row in ipairs(body.body) do
        for index, cell in ipairs(row.cells) do
          local heading = head.cells[index]
          cell.attr.attributes.label = heading and pandoc.utils.stringify(heading.contents) or nil
        end
      end
    end
  end
  return {
    pandoc.RawBlock('html', '<div class="table-scroll" role="group" aria-label="Table" tabindex="0">'), element,
    pandoc.RawBlock('html', '</div>'),
  }, false
end

function html.code(block)
  block.attributes.tabindex = '0'  -- long lines scroll, and not every reader has a mouse
  return block
end

local typst = {}

function typst.float(float)
  local body, caption, is_table = parts_of(float)
  local given = float.attributes
  local options = string.format('#[#paper-float(kind: %s, label: "%s", number: %s, full: %s, long: %s, caption: [',
    is_table and '"table"' or '"image"', float.identifier, typst_string(given.number), given.full, given.long)
  local blocks = pandoc.Blocks {pandoc.RawBlock('typst', options)}
  blocks:extend(caption)
  blocks:insert(pandoc.RawBlock('typst', '], ['))
  blocks:extend(body)
  blocks:insert(pandoc.RawBlock('typst', ']) <' .. float.identifier .. '>]'))
  return blocks
end

-- Without the spaces whose widths pandoc rounds to whole ems.
local function translatable(tex)
  return (tex:gsub('\\[;:]', '\\,'):gsub('\\!', ''))
end

function typst.equation(div)
  local math = div.content[1].content[1]
  local alt = typst_string(math.text)
  math.text = translatable(math.text)
  local body = pandoc.write(pandoc.Pandoc {pandoc.Plain {math}}, 'typst'):gsub('%s+$', '')
  local number = div.attributes.number and typst_string(div.attributes.number) or 'none'
  local label = div.identifier ~= '' and ' <' .. div.identifier .. '>' or ''
  return pandoc.RawBlock('typst', string.format('#paper-equation(number: %s, alt: %s)[%s]%s', number, alt, body, label))
end

function typst.table(element)
  local caption = element.caption.long
  element.attr.classes, element.caption = {'typst:no-figure'}, pandoc.Caption()
  local blocks = pandoc.Blocks {pandoc.RawBlock('typst', '#paper-markdown-table(caption: [')}
  blocks:extend(caption)
  blocks:extend {pandoc.RawBlock('typst', '])['), element, pandoc.RawBlock('typst', ']')}
  return blocks, false
end

function typst.callout(div)
  local title = div.content:remove(1)
  local kind = div.classes[2]:gsub('^callout%-', '')
  local blocks = pandoc.Blocks {pandoc.RawBlock('typst', '#paper-callout("' .. kind .. '", [')}
  blocks:extend(title.content)
  blocks:insert(pandoc.RawBlock('typst', '])['))
  blocks:extend(div.content)
  blocks:insert(pandoc.RawBlock('typst', ']'))
  return blocks
end

-- From here on Typst counts the headings of the top level with letters, as labels.lua did.
function typst.appendix(heading)
  return {pandoc.RawBlock('typst', '#pagebreak(weak: true)\n#counter(heading).update(0)\n#set heading(numbering: "A.1")'), heading}
end

function typst.math(math)
  if math.mathtype == 'InlineMath' then
    math.text = translatable(math.text)
    return math
  end
end

function write.finish(document, target)
  local writer = target == 'html' and html or typst
  document = document:walk {Table = writer.table}
  return document:walk {
    Math = writer.math,
    CodeBlock = writer.code,
    Header = function(heading)
      if writer.appendix and heading.attributes.appendix then
        heading.attributes.appendix = nil
        return writer.appendix(heading)
      end
    end,
    Div = function(div)
      if div.classes:includes('paper-float') then return writer.float(div) end
      if div.classes:includes('paper-equation') then return writer.equation(div) end
      if writer.callout and div.classes:includes('callout') then return writer.callout(div) end
    end,
  }
end

return write
