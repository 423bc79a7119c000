-- What a piece may bring in from outside: marks images for Python to fetch and disarms links.

local sources = {}

-- Encoded as letters, digits and `_2E`: every writer of pandoc leaves such an address as it is.
local function marked(address, cell)
  local encoded = address:gsub('%W', function(char) return string.format('_%02X', char:byte()) end)
  return string.format('local-image:%d:%s', cell, encoded)
end

local function is_remote(address)
  return address:match('^https?://') or address:match('^//')
end

-- The paper never reaches for the network, so an image there becomes a link to it.
local function image(element, cell)
  if not is_remote(element.src) then
    element.src = marked(element.src, cell)
    return element
  end
  local text = #element.caption > 0 and element.caption or pandoc.Inlines(element.src)
  return pandoc.Link(text, element.src)
end

-- `<img src="…">` is how many notebooks size their images.
local function html_image(raw)
  local tag = raw.format == 'html' and raw.text:match('^%s*<img%s(.-)/?>%s*$')
  local src = tag and (tag:match('src="([^"]+)"') or tag:match("src='([^']+)'"))
  if not src then return nil end
  local alt = tag:match('alt="([^"]*)"') or ''
  local width = tag:match('width="?(%d+%%?)')
  return pandoc.Image(pandoc.Inlines(alt), src, '', width and {width = width} or {})
end

local SAFE = {http = true, https = true, mailto = true, doi = true}

local function link(element)
  local scheme = element.target:match('^%s*(%a[%w+.-]*):')
  if element.target == '' or (scheme and not SAFE[scheme:lower()]) then return element.content end
end

function sources.tidy(blocks, cell)
  blocks = blocks:walk {
    RawInline = html_image,
    RawBlock = function(raw)
      local found = html_image(raw)
      return found and pandoc.Para {found}
    end,
  }
  return blocks:walk {Image = function(element) return image(element, cell) end, Link = link}
end

return sources
