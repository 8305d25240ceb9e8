-- SPDX-License-Identifier: GPL-2.0-or-later
-- A job's licences: the user's own are kept, power tokens are ours alone.
local text = require("power_broker.text")
local refusal = require("power_broker.refusal")

local licenses = {}

local RESOURCE = "power" -- the HRES that counts watts, per node
local MOST_BYTES = 1024 -- Slurm refuses longer ones after the hook

local function is_token(item)
    return item == RESOURCE
        or string.find(item, "^" .. RESOURCE .. "[ \t]*[:=@(]") ~= nil
end

function licenses.has_tokens(list)
    for _, item in ipairs(text.split(list or "", "[,;|]")) do
        if is_token(text.trimmed(item)) then return true end
    end
    return false
end

-- Without any power tokens; raises for what cannot be combined with them.
function licenses.others(list)
    if string.find(list or "", "|", 1, true) then
        refusal.raise("NotSupported", "licences joined with | cannot be combined with power; name one")
    end
    local kept = {}
    for _, item in ipairs(text.split(list or "", "[,;]")) do
        item = text.trimmed(item)
        if item ~= "" and not is_token(item) then kept[#kept + 1] = item end
    end
    return table.concat(kept, ",")
end

function licenses.with_tokens(others, tokens_w_per_node)
    local tokens = RESOURCE .. ":" .. text.whole(tokens_w_per_node)
    local joined = others == "" and tokens or (others .. "," .. tokens)
    if #joined > MOST_BYTES then
        refusal.raise("NotSupported", "the licences are longer than 1,024 bytes; name fewer")
    end
    return joined
end

return licenses
