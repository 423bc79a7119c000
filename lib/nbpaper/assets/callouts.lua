-- Callouts in GitHub's idiom: a block quote that opens with `[!NOTE]`, `[!TIP]`, `[!IMPORTANT]`, `[!WARNING]` or
-- `[!CAUTION]`. Where Markdown is shown as such, in JupyterLab say, it remains a block quote that reads well.

local callouts = {}

local KINDS = {note = true, tip = true, important = true, warning = true, caution = true}

-- pandoc's Div of the kind's class, whose first block is a Div of class `title`, as a Div of class `callout`.
local function callout(div)
  local kind, first = div.classes[1], div.content[1]
  if not (KINDS[kind] and first and first.t == 'Div' and first.classes:includes('title')) then return nil end
  first.classes = {'callout-title'}
  return pandoc.Div(div.content, {class = 'callout callout-' .. kind, role = 'note'})
end

function callouts.tidy(blocks)
  return blocks:walk {Div = callout}
end

return callouts
