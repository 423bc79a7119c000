-- Display mathematics: finds it wherever authors put it and makes it a block of its own.
--
-- `$$ … $$` and `\begin{align} … \end{align}` (which pandoc would drop from most targets) become Divs of class
-- `paper-equation`, with `eq-name` as identifier where they hold `\label{eq:name}`.

local equations = {}

local ENVIRONMENTS = {
  equation = '%s', displaymath = '%s', math = '%s',
  align = '\\begin{aligned}%s\\end{aligned}', eqnarray = '\\begin{aligned}%s\\end{aligned}',
  alignat = '\\begin{aligned}%s\\end{aligned}', flalign = '\\begin{aligned}%s\\end{aligned}',
  gather = '\\begin{gathered}%s\\end{gathered}', multline = '\\begin{gathered}%s\\end{gathered}',
}

-- The TeX of a whole environment as TeX that means the same inside `$$`, or nil if it is no mathematics.
local function unwrapped(text)
  local name, body = text:match('^%s*\\begin{(%a+)%*?}(.*)\\end{%a+%*?}%s*$')
  local pattern = name and ENVIRONMENTS[name]
  if not pattern then return nil end
  if name == 'alignat' then body = body:gsub('^%s*{%d+}', '') end
  return (pattern:gsub('%%s', function() return body end))
end

local function block(tex)
  tex = unwrapped(tex) or tex
  local label = tex:match('\\label%s*{([^}]*)}')
  tex = tex:gsub('%s*\\label%s*{[^}]*}', ''):gsub('\\nonumber', ''):gsub('\\notag', '')
  local id = label and equations.normal(label) or ''
  return pandoc.Div({pandoc.Plain {pandoc.Math('DisplayMath', tex)}}, {id = id, class = 'paper-equation'})
end

-- `eq:name`, as LaTeX users write it, is `eq-name` here.
function equations.normal(label)
  return (label:gsub(':', '-'))
end

local function environment(element)
  return element.t:match('^Raw') and element.format:match('tex') and unwrapped(element.text) and element.text
end

local function is_blank(element)
  return element and (element.t == 'Space' or element.t == 'SoftBreak' or element.t == 'LineBreak')
end

-- The TeX of an element that is an equation.
local function tex_of(element)
  return element.t == 'Math' and element.mathtype == 'DisplayMath' and element.text or environment(element)
end

local function split(paragraph)
  local blocks, line, found = pandoc.Blocks {}, pandoc.Inlines {}, false
  local function flush()
    while is_blank(line[#line]) do line:remove() end
    if #line > 0 then blocks:insert(pandoc[paragraph.t](line)) end
    line = pandoc.Inlines {}
  end
  for _, element in ipairs(paragraph.content) do
    local tex = tex_of(element)
    if tex then
      flush()
      blocks:insert(block(tex))
      found = true
    elseif #line > 0 or not is_blank(element) then
      line:insert(element)
    end
  end
  flush()
  return found and blocks or nil
end

-- TeX that is no mathematics would vanish; show it as it was written.
local function literal(raw)
  if not raw.format:match('tex') then return nil end
  if raw.text:match('^\\eqref{') or raw.text:match('^\\ref{') then return nil end
  return raw.t == 'RawBlock' and pandoc.Para {pandoc.Code(raw.text)} or pandoc.Code(raw.text)
end

function equations.lift(blocks)
  local function raw_block(raw)
    local tex = environment(raw)
    if tex then return block(tex) end
  end
  blocks = blocks:walk {RawBlock = raw_block, Para = split, Plain = split}
  return blocks:walk {RawBlock = literal, RawInline = literal}
end

return equations
