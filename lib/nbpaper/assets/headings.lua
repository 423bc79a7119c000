-- Levels and numbers of headings, and where the appendix starts.

local headings = {}

-- `2.1`, or `A.1` in the appendix.
local function numeral(path, in_appendix)
  local shown = pandoc.List(path):clone()
  if in_appendix then shown[1] = string.char(string.byte('A') + (path[1] - 1) % 26) end
  return table.concat(shown, '.')
end

local function counted(path, level)
  for above = #path + 1, level do path[above] = 0 end
  path[level] = path[level] + 1
  for below = #path, level + 1, -1 do path[below] = nil end
end

-- A function that numbers one heading after the other. `book` records problems and gives out anchors.
-- Headings start at level 1 whatever the notebook's own top level is, and are numbered like 2.1. The first heading of
-- an `appendix` part starts the appendix, where they are lettered.
function headings.numberer(parts, target, book)
  local top, path, in_appendix = 9, {}, false
  for _, part in ipairs(parts) do
    part.blocks:walk {Header = function(heading) top = math.min(top, heading.level) end}
  end
  return function(heading, part)
    heading.level = heading.level - top + 1
    if part.appendix and not in_appendix then
      if heading.level > 1 then book.problem(part.cell, 'only a heading of the highest level can start the appendix') end
      in_appendix, path = true, {}
      if target == 'typst' then heading.attributes.appendix = 'starts' end
    end
    heading.identifier = book.anchor(heading.identifier)
    counted(path, heading.level)
    if target == 'html' then
      local span = pandoc.Span(pandoc.Inlines(numeral(path, in_appendix)), {class = 'section-number'})
      heading.content = pandoc.Inlines {span, pandoc.Space()} .. heading.content
      heading.level = heading.level + 1
    end
    return heading
  end
end

return headings
