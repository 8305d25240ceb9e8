-- SPDX-License-Identifier: GPL-2.0-or-later
-- Numbers and words as the sentences show them; the same text on Lua 5.1 to 5.4.
local text = {}

-- tostring() writes 5.0 for a float on 5.3 and later, %d does not.
function text.whole(number)
    return string.format("%d", number)
end

function text.commas(number)
    local digits = text.whole(number)
    local sign, body = string.match(digits, "^(%-?)(%d+)$")
    local groups = {}
    while #body > 3 do
        table.insert(groups, 1, string.sub(body, -3))
        body = string.sub(body, 1, -4)
    end
    table.insert(groups, 1, body)
    return sign .. table.concat(groups, ",")
end

function text.watts(power_w)
    return text.commas(power_w) .. " W"
end

-- Two decimals of a kW, rounded half up in whole numbers: Python prints the same.
function text.kilowatts(power_w)
    local hundredths = math.floor((power_w + 5) / 10)
    return string.format("%d.%02d kW", math.floor(hundredths / 100), hundredths % 100)
end

function text.nodes(count)
    if count == 1 then return "1 node" end
    return text.whole(count) .. " nodes"
end

-- At most 40 printable characters: it goes to terminals and logs.
function text.shown(value)
    local clean = string.gsub(string.sub(value, 1, 40), "[^ -~]", "?")
    if #value > 40 then clean = clean .. "..." end
    return clean
end

function text.trimmed(value)
    local from = string.find(value, "[^ \t]")
    if not from then return "" end
    local to = #value
    while string.find(value, "^[ \t]", to) do to = to - 1 end
    return string.sub(value, from, to)
end

-- Pieces of a list, empty ones too, so that callers see what was there.
function text.split(value, separators)
    local pieces, from = {}, 1
    while true do
        local at = string.find(value, separators, from)
        if not at then break end
        pieces[#pieces + 1] = string.sub(value, from, at - 1)
        from = at + 1
    end
    pieces[#pieces + 1] = string.sub(value, from)
    return pieces
end

function text.words(value)
    local found = {}
    for word in string.gmatch(value or "", "[^,]+") do found[#found + 1] = word end
    return found
end

function text.has(list, value)
    for _, each in ipairs(list) do
        if each == value then return true end
    end
    return false
end

return text
