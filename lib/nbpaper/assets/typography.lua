-- Small manners of typesetting that Markdown leaves to the author: "95 %" does not break across lines.

local typography = {}

local function keep_percent(inlines)
  for i = 2, #inlines - 1 do
    local before, space, after = inlines[i - 1], inlines[i], inlines[i + 1]
    if space.t == 'Space' and before.t == 'Str' and after.t == 'Str' then
      if before.text:match('%d$') and after.text:match('^%%') then inlines[i] = pandoc.Str('\u{a0}') end
    end
  end
  return inlines
end

function typography.tidy(blocks)
  return blocks:walk {Inlines = keep_percent}
end

return typography
