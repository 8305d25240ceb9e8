-- SPDX-License-Identifier: GPL-2.0-or-later
-- A job's power envelope: what its user wrote in --comment, and the charge that follows.
-- broker/domain/envelope.py is the same in Python; one table of cases and random input run
-- through both (tests/unit/hook), so change them together.
local text = require("power_broker.text")
local refusal = require("power_broker.refusal")

local envelope = {}

local MOST_COMMENT_BYTES = 1024 -- Slurm refuses longer ones, after the hook
local MOST_VALUE_BYTES = 40 -- bounds what a pattern can backtrack over
local MOST_POWER_W = 1000000000

local KEYS = { "est", "max", "headroom", "tier", "class", "deadline", "preempt", "burst" }
local JSON_KEYS = {
    "estimatedPowerKW", "maxPowerKW", "minRackHeadroomKW", "priority",
    "class", "deadline", "preemptible", "burst",
}
local UNMISTAKABLE = { '"estimatedPowerKW"', '"maxPowerKW"', '"minRackHeadroomKW"' }
local SCALE_W = { W = 1, kW = 1000, MW = 1000000 }

local A_POWER = "must be a plain number above 0 with its unit W, kW or MW right after it, such as 18.5kW"
local A_POWER_OR_NODE = A_POWER .. " or 4kW/node"
local A_NUMBER_OF_KW = "must be a plain number of kW above 0, such as 18.5"
local TOO_MUCH = "must be at most 1,000,000,000 W"
local A_TIER = "must be gold, silver or bronze"
local A_CLASS = "must be a name of at most 32 letters, digits, _ and -"
local A_DEADLINE = "must be a time such as 2026-12-01T18:00"
local A_YES = "must be yes or no"
local A_TRUTH = "must be true or false"
local A_BURST = "must be 1 to 3600 seconds and a power, such as 30s@26kW"
local A_KEY = "is not a key of an envelope; allowed are " .. table.concat(KEYS, ", ")
local A_JSON_KEY = "is not a key of an envelope; allowed are " .. table.concat(JSON_KEYS, ", ")
local A_WORD = "must be key=value; the keys are " .. table.concat(KEYS, ", ")
local ONCE = "is given twice; give each key once"
local FLAT_JSON = "must be one flat JSON object with the keys " .. table.concat(JSON_KEYS, ", ")
local ASCII = "must be printable ASCII"
local SHORT = "must be at most 1,024 bytes long"

local function bad(key, value, allowed)
    if value == "" then
        refusal.raise("BadEnvelope", text.shown(key) .. " " .. allowed)
    end
    refusal.raise("BadEnvelope", text.shown(key) .. "=" .. text.shown(value) .. ": " .. allowed)
end

-- Exact in whole numbers, rounded up; nil where it is beyond all reason.
local function watts(whole, fraction, scale_w)
    local digits = string.match(whole, "^0*(%d*)$")
    if #digits > 9 then return nil end
    local millionths = tonumber(string.sub(fraction .. "000000", 1, 6))
    local power_w = (tonumber(digits) or 0) * scale_w + math.ceil(millionths * scale_w / 1000000)
    if power_w > MOST_POWER_W then return nil end
    return power_w
end

-- "" and "12" are fractions; nil says that the dot stands alone or too much follows it.
local function fraction_of(part)
    if part == "" then return "" end
    local digits = string.sub(part, 2)
    if #digits < 1 or #digits > 6 then return nil end
    return digits
end

local function power(key, value, per_node_allowed, allowed)
    if #value > MOST_VALUE_BYTES then bad(key, value, allowed) end
    local whole, part, unit, suffix = string.match(value, "^(%d+)(%.?%d*)([A-Za-z]+)(/?[A-Za-z]*)$")
    if not whole or not SCALE_W[unit] then bad(key, value, allowed) end
    local fraction = fraction_of(part)
    if not fraction then bad(key, value, allowed) end
    if suffix ~= "" and not (per_node_allowed and suffix == "/node") then bad(key, value, allowed) end
    local power_w = watts(whole, fraction, SCALE_W[unit])
    if not power_w then bad(key, value, TOO_MUCH) end
    return power_w, suffix ~= ""
end

local function positive_power(key, value)
    local power_w, per_node = power(key, value, true, A_POWER_OR_NODE)
    if power_w == 0 then bad(key, value, A_POWER_OR_NODE) end
    return power_w, per_node
end

local function one_of(key, value, list, allowed)
    if not text.has(list, value) then bad(key, value, allowed) end
    return value
end

local function is_a_time(year, month, day, hour, minute, second)
    if month < 1 or month > 12 or hour > 23 or minute > 59 or second > 59 then return false end
    local leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
    local days = ({ 31, leap and 29 or 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 })[month]
    return day >= 1 and day <= days
end

local function deadline(key, value)
    local date = "^(20%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d)"
    local year, month, day, hour, minute = string.match(value, date .. "$")
    local second = "0"
    if not year then
        year, month, day, hour, minute, second = string.match(value, date .. ":(%d%d)$")
    end
    if not year or not is_a_time(tonumber(year), tonumber(month), tonumber(day),
                                 tonumber(hour), tonumber(minute), tonumber(second)) then
        bad(key, value, A_DEADLINE)
    end
    return value
end

local function burst(key, value)
    local seconds, rest = string.match(value, "^(%d+)s@(.+)$")
    if not seconds or #seconds > 4 then bad(key, value, A_BURST) end
    if tonumber(seconds) < 1 or tonumber(seconds) > 3600 then bad(key, value, A_BURST) end
    local power_w = power(key, rest, false, A_BURST)
    if power_w == 0 then bad(key, value, A_BURST) end
    return tonumber(seconds), power_w
end

local READ = {
    est = function(found, key, value) found.est_w, found.est_per_node = positive_power(key, value) end,
    max = function(found, key, value) found.max_w, found.max_per_node = positive_power(key, value) end,
    headroom = function(found, key, value) found.headroom_w = power(key, value, false, A_POWER) end,
    tier = function(found, key, value)
        found.tier = one_of(key, value, { "gold", "silver", "bronze" }, A_TIER)
    end,
    class = function(found, key, value)
        if #value > 32 or not string.find(value, "^[A-Za-z0-9_-]+$") then bad(key, value, A_CLASS) end
        found.class = value
    end,
    deadline = function(found, key, value) found.deadline = deadline(key, value) end,
    preempt = function(found, key, value)
        found.preempt = one_of(key, value, { "yes", "no" }, A_YES) == "yes"
    end,
    burst = function(found, key, value) found.burst_s, found.burst_w = burst(key, value) end,
}

local function json_kilowatts(key, raw)
    local whole, part
    if #raw <= MOST_VALUE_BYTES then whole, part = string.match(raw, "^(%d+)(%.?%d*)$") end
    local fraction = whole and fraction_of(part)
    if not fraction then bad(key, raw, A_NUMBER_OF_KW) end
    local power_w = watts(whole, fraction, 1000)
    if not power_w then bad(key, raw, TOO_MUCH) end
    if power_w == 0 and key ~= "minRackHeadroomKW" then bad(key, raw, A_NUMBER_OF_KW) end
    return power_w
end

-- An unquoted word fails the same check as a wrong one: the brackets stay in the value.
local function json_string(word)
    return function(found, key, raw)
        local value = "(" .. raw .. ")"
        if string.sub(raw, 1, 1) == '"' then value = string.sub(raw, 2, -2) end
        READ[word](found, key, value)
    end
end

local READ_JSON = {
    estimatedPowerKW = function(found, key, raw)
        found.est_w, found.est_per_node = json_kilowatts(key, raw), false
    end,
    maxPowerKW = function(found, key, raw)
        found.max_w, found.max_per_node = json_kilowatts(key, raw), false
    end,
    minRackHeadroomKW = function(found, key, raw) found.headroom_w = json_kilowatts(key, raw) end,
    preemptible = function(found, key, raw)
        found.preempt = one_of(key, raw, { "true", "false" }, A_TRUTH) == "true"
    end,
    priority = json_string("tier"),
    class = json_string("class"),
    deadline = json_string("deadline"),
    burst = json_string("burst"),
}

local function build(pairs_found, readers, unknown)
    local found, seen = { est_per_node = false, max_per_node = false }, {}
    for _, pair in ipairs(pairs_found) do
        local key, value = pair[1], pair[2]
        if value == nil then bad(key, "", A_WORD) end
        local read = readers[key]
        if not read then bad(key, value, unknown) end
        if seen[key] then bad(key, value, ONCE) end
        seen[key] = true
        read(found, key, value)
    end
    if found.est_w and found.max_w and found.est_per_node == found.max_per_node
        and found.est_w > found.max_w then
        bad("est", text.whole(found.est_w) .. "W",
            "must not be above max, which is " .. text.whole(found.max_w) .. " W")
    end
    return found
end

-- Where the envelope starts: after the first `power:` that is a word of its own.
local function after_marker(comment)
    local at = string.find(comment, "power:", 1, true)
    while at and at > 1 and string.find(comment, "^[A-Za-z0-9_]", at - 1) do
        at = string.find(comment, "power:", at + 1, true)
    end
    return at and at + #"power:"
end

local function refuse_unprintable(body)
    if string.find(body, "[^ -~\t]") then bad("power", body, ASCII) end
end

-- A word without `=` is a key without a value, refused when its turn comes.
local function word_pairs(body)
    local found = {}
    for word in string.gmatch(body, "[^ \t]+") do
        local equals = string.find(word, "=", 1, true)
        if equals then
            found[#found + 1] = { string.sub(word, 1, equals - 1), string.sub(word, equals + 1) }
        else
            found[#found + 1] = { word }
        end
    end
    return found
end

local function json_value(body, at)
    local pattern = '^[^",{}%[%] \t]+'
    if string.sub(body, at, at) == '"' then pattern = '^"[^"\\]*"' end
    local _, to = string.find(body, pattern, at)
    if not to then return nil end
    local _, past = string.find(body, "^[ \t]*", to + 1)
    return string.sub(body, at, to), past + 1
end

-- Keys and raw values of a flat object, or nil. Ours need no escapes and no nesting.
local function json_pairs(body)
    if string.find(body, "^{[ \t]*}$") then return {} end
    local found, at = {}, 2
    while true do
        local _, to, key = string.find(body, '^[ \t]*"([^"\\]*)"[ \t]*:[ \t]*', at)
        if not to then return nil end
        local value, past = json_value(body, to + 1)
        if not value then return nil end
        found[#found + 1] = { key, value }
        local char = string.sub(body, past, past)
        if char == "}" then
            if past == #body then return found end
            return nil
        end
        if char ~= "," then return nil end
        at = past + 1
    end
end

local function has_key(pairs_found)
    for _, pair in ipairs(pairs_found) do
        if READ_JSON[pair[1]] then return true end
    end
    return false
end

local function mentions_us(body)
    for _, key in ipairs(UNMISTAKABLE) do
        if string.find(body, key, 1, true) then return true end
    end
    return false
end

-- A comment that is nothing but a JSON object is ours if it has one of our keys.
local function parse_bare_json(comment)
    local body = text.trimmed(comment)
    if string.sub(body, 1, 1) ~= "{" then return nil end
    local found = json_pairs(body)
    if not found then
        if not mentions_us(body) then return nil end
        refuse_unprintable(body)
        bad("comment", body, FLAT_JSON)
    end
    if not has_key(found) then return nil end
    refuse_unprintable(body)
    return build(found, READ_JSON, A_JSON_KEY)
end

-- The envelope in a comment, or nil where there is none; raises a refusal.
function envelope.parse(comment)
    if comment == nil or comment == "" then return nil end
    if #comment > MOST_COMMENT_BYTES then
        bad("comment", text.whole(#comment) .. " bytes", SHORT)
    end
    local start = after_marker(comment)
    if not start then return parse_bare_json(comment) end
    local body = text.trimmed(string.sub(comment, start))
    refuse_unprintable(body)
    if string.sub(body, 1, 1) == "{" then
        local found = json_pairs(body)
        if not found then bad("power", body, FLAT_JSON) end
        if #found == 0 then bad("power", "", A_WORD) end
        return build(found, READ_JSON, A_JSON_KEY)
    end
    local found = word_pairs(body)
    if #found == 0 then bad("power", "", A_WORD) end
    return build(found, READ, A_KEY)
end

local FIELDS = {
    "est_w", "est_per_node", "max_w", "max_per_node", "headroom_w", "tier", "class",
    "deadline", "preempt", "burst_s", "burst_w",
}

-- Two envelopes that promise the same, however they are written.
function envelope.same(one, other)
    if one == nil or other == nil then return one == other end
    for _, field in ipairs(FIELDS) do
        if one[field] ~= other[field] then return false end
    end
    return true
end

local function class_of(declared, classes)
    local wanted, names = declared.class or "default", {}
    for index, each in ipairs(classes) do
        if each.name == wanted then return each end
        names[index] = each.name
    end
    if declared.class then
        local known = #names > 0 and table.concat(names, ", ") or "none"
        bad("class", wanted, "must be a class of this site: " .. known)
    end
    return { name = "default", est_share = 1, max_share = 1 }
end

local function total(power_w, per_node, nodes)
    if power_w and per_node then return power_w * nodes end
    return power_w
end

-- Fill in what was left out and work out the charge; raises a refusal.
-- found: of envelope.parse, or nil; node_type: idle_w, max_w.
function envelope.complete(found, nodes, node_type, classes)
    local declared = found or {}
    local defaults = class_of(declared, classes)
    local full_w = nodes * node_type.max_w
    local most_w = total(declared.max_w, declared.max_per_node, nodes)
    if not most_w then
        most_w = declared.class and math.ceil(full_w * defaults.max_share) or full_w
    end
    local est_w = total(declared.est_w, declared.est_per_node, nodes)
    if not est_w then
        est_w = found and math.ceil(most_w * defaults.est_share) or most_w
    end
    if declared.max_w and est_w > most_w then
        bad("est", text.whole(est_w) .. "W",
            "must not be above max, which is " .. text.whole(most_w) .. " W")
    end
    -- A node cannot draw more than its maximum, whatever is declared, and never less than idle.
    most_w = math.min(math.max(most_w, est_w), full_w)
    est_w = math.min(est_w, most_w)
    local charge_w = math.max(most_w, nodes * node_type.idle_w)
    local per_node_w = math.min(math.ceil(charge_w / nodes), node_type.max_w)
    return {
        est_w = est_w,
        max_w = most_w,
        charge_w = charge_w,
        tokens_w_per_node = math.max(1, per_node_w - node_type.idle_w),
        nodes = nodes,
    }
end

return envelope
