-- SPDX-License-Identifier: GPL-2.0-or-later
-- A name for a verdict before the job has an id: PW-, the time, a counter, and chance.
local ticket = {}

local ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" -- Crockford's: no I, L, O, U

local function base32(number, digits)
    local out = ""
    for _ = 1, digits do
        local digit = number % 32
        out = string.sub(ALPHABET, digit + 1, digit + 1) .. out
        number = math.floor(number / 32)
    end
    return out
end

-- A generator of our own: seeding math.random would change the site's script.
local function seed()
    local address = tonumber(string.match(tostring({}), "(%x%x%x%x%x%x)$") or "1", 16)
    local mixed = os.time() * 1000 + math.floor(os.clock() * 1000000) + address
    return mixed % 2147483646 + 1
end

local chance, count = seed(), 0

function ticket.new(now)
    chance = (chance * 16807) % 2147483647
    count = (count + 1) % 1024
    return "PW-" .. base32(now, 7) .. base32(count, 2) .. base32(chance, 4)
end

return ticket
