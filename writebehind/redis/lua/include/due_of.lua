-- When a member is due that has this score, whether it is set aside or not: see `claim`.
local function due_of(score)
  return score < 0 and score + 1e13 or score
end
