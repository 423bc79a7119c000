-- A pandoc reader for nbpaper's pieces: JSON in, one numbered and cross-referenced document out.
--
-- The job holds `target` ("html" or "typst"), `meta` (front matter) and `pieces` (see compose.py). Each piece is
-- parsed on its own. Figures, tables and equations become Divs of class `paper-float` or `paper-equation`, are
-- numbered in order of appearance, and are written out for the target last, when every label is known.

local callouts = require 'callouts'
local equations = require 'equations'
local labels = require 'labels'
local sources = require 'sources'
local write = require 'write'

local MARKDOWN = 'markdown+lists_without_preceding_blankline+autolink_bare_uris+alerts'
  .. '-blank_before_header-blank_before_blockquote-yaml_metadata_block-pandoc_title_block-citations'
-- What a code cell printed is not the author's hand: no raw markup of any target language in it.
local UNTRUSTED = MARKDOWN .. '-raw_html-raw_attribute-native_divs-native_spans-markdown_in_html_blocks'
-- Lines of any length: pandoc would otherwise squeeze tables whose source is wide.
local OPTIONS = {columns = 10000}

-- Markdown as tidy blocks. What Python wrote for the target never passes through here.
local function parse(text, trusted, cell)
  local blocks = pandoc.read(text, trusted and MARKDOWN or UNTRUSTED, OPTIONS).blocks
  return callouts.tidy(equations.lift(sources.tidy(blocks, cell)))
end

local function cell_of(piece)
  return math.tointeger(piece.cell)
end

local function float(piece, target)
  local body = piece.body == 'markdown' and parse(piece.text, false, cell_of(piece))
    or pandoc.Blocks {pandoc.RawBlock(target, piece.text)}
  local caption = parse(piece.caption, true, cell_of(piece))
  return labels.float(piece.label, body, caption, piece)
end

local function code(piece)
  return {
    pandoc.RawBlock('html', '<details class="code"><summary>' .. piece.summary .. '</summary>'),
    pandoc.CodeBlock(piece.text, {class = 'python'}),
    pandoc.RawBlock('html', '</details>'),
  }
end

local function blocks_of(piece, target)
  if piece.kind == 'markdown' then return parse(piece.text, piece.trusted, cell_of(piece)) end
  if piece.kind == 'raw' then return {pandoc.RawBlock(target, piece.text)} end
  if piece.kind == 'code' then return code(piece) end
  return {float(piece, target)}
end

-- The title is the front matter's, or the first level-1 heading. A lone level-1 heading at the top is the title that
-- JupyterLab shows, and does not appear twice.
local function take_title(parts, title)
  local count, first_part, first_index, seen_other = 0, nil, nil, false
  for _, part in ipairs(parts) do
    for index, block in ipairs(part.blocks) do
      if block.t == 'Header' then
        if block.level == 1 then
          count = count + 1
          if not first_part and not seen_other then first_part, first_index = part, index end
        elseif not first_part then
          seen_other = true
        end
      end
    end
  end
  if first_part and (title == '' or count == 1) then
    local heading = first_part.blocks:remove(first_index)
    return title == '' and heading.content or nil
  end
end

local function inlines(text)
  return pandoc.utils.blocks_to_inlines(parse(text, true, 0))
end

local function metadata(job, parts)
  local given, meta = job.meta, {}
  local heading = take_title(parts, given.title)
  meta.title = heading or inlines(given.title ~= '' and given.title or 'Untitled')
  meta.pagetitle = pandoc.utils.stringify(meta.title)
  meta.subtitle = given.subtitle ~= '' and inlines(given.subtitle) or nil
  meta.card = given.card ~= '' and given.card or nil
  meta.author = pandoc.List(given.authors):map(function(name) return pandoc.Inlines(name) end)
  meta.bibliography = given.bibliography ~= '' and given.bibliography or nil
  return meta
end

function Reader(input)
  local job = pandoc.json.decode(tostring(input), false)
  local parts = pandoc.List {{cell = 0, blocks = pandoc.Blocks(parse(job.meta.abstract, true, 0))}}
  for _, piece in ipairs(job.pieces) do
    parts:insert {cell = cell_of(piece), blocks = pandoc.Blocks(blocks_of(piece, job.target)), appendix = piece.appendix}
  end
  local meta = metadata(job, parts)
  labels.number(parts, job.target, job.absent)
  local document = labels.resolve(parts, meta, job.target)
  return write.finish(document, job.target)
end
