-- SPDX-License-Identifier: GPL-2.0-or-later
-- How many nodes the layers can host, now or ever.
local placement = {}

-- Nodes at these tokens that all layers together can host; when: "now" or "ever".
-- Layers are a tree and every node asks the same, so taking racks in any order finds the most.
function placement.hosts(state, tokens_w, headroom_w, when)
    local tokens_field = "tokens_" .. when .. "_w"
    local nodes_field = when == "ever" and "nodes" or "nodes_now"
    local left, total = {}, 0
    for _, layer in ipairs(state.upper) do left[layer] = layer[tokens_field] end
    for _, rack in ipairs(state.racks) do
        local parents = rack.above
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
