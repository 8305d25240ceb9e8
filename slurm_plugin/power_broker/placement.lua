-- SPDX-License-Identifier: GPL-2.0-or-later
-- How many nodes the layers can host, now or ever.
local placement = {}

local function upper_by_name(state)
    local by_name = {}
    for _, layer in ipairs(state.upper) do by_name[layer.name] = layer end
    for _, layer in ipairs(state.upper) do
        if layer.kind == "site" and not by_name.site then by_name.site = layer end
    end
    return by_name
end

local function parents_of(rack, by_name)
    local found = {}
    for _, name in ipairs(rack.parents) do
        if by_name[name] then found[#found + 1] = by_name[name] end
    end
    return found
end

-- Nodes at these tokens that all layers together can host; when: "now" or "ever".
-- Layers are a tree and every node asks the same, so taking racks in any order finds the most.
function placement.hosts(state, tokens_w, headroom_w, when)
    local tokens_field = "tokens_" .. when .. "_w"
    local nodes_field = when == "ever" and "nodes" or "nodes_now"
    local by_name, left, total = upper_by_name(state), {}, 0
    for _, layer in ipairs(state.upper) do left[layer] = layer[tokens_field] end
    for _, rack in ipairs(state.racks) do
        local parents = parents_of(rack, by_name)
        local most = math.min(rack[nodes_field], math.floor((rack[tokens_field] - headroom_w) / tokens_w))
        for _, parent in ipairs(parents) do
            most = math.min(most, math.floor(left[parent] / tokens_w))
        end
        most = math.max(0, most)
        for _, parent in ipairs(parents) do left[parent] = left[parent] - most * tokens_w end
        total = total + most
    end
    return total
end

function placement.nodes(state)
    local total = 0
    for _, rack in ipairs(state.racks) do total = total + rack.nodes end
    return total
end

return placement
