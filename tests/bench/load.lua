-- Sends the requests of a file: wrk … -- FILE AT EXPECTED READ. A line is METHOD, path, body, entity tag and what an Idempotency-Key begins with, with
-- tabs between; the last three may be empty. The key of each request is another one. AT is how many were sent before, where they are sent in turn; else they begin at a random one. {turn} in a body is how often all
-- of them have been sent. Where EXPECTED is not empty, an answer is wrong that holds neither it nor READ, where that is not empty.
local requests, threads, probed = {}, {}, false
at, wrong, sample = 0, 0, ""

function setup(thread)
   threads[#threads + 1] = thread
end

local function format(method, path, body, etag, key)
   wrk.headers["If-None-Match"] = etag ~= "" and etag or nil
   wrk.headers["Idempotency-Key"] = key ~= "" and key .. tostring(at) or nil
   return wrk.format(method, path, nil, body ~= "" and body or nil)
end

function init(arguments)
   for line in io.lines(arguments[1]) do
      local method, path, body, etag, key = line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)$")
      local changes = key ~= "" or body:find("{turn}", 1, true)
      requests[#requests + 1] = changes and { method, path, body, etag, key } or format(method, path, body, etag, key)
   end
   at = tonumber(arguments[2])
   if not at then
      math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 1000000)
      at = math.random(#requests)
   end
   local expected, read = arguments[3], arguments[4]
   if expected and expected ~= "" then
      response = function(status, headers, body)
         body = body:gsub('": ', '":')
         if not body:find(expected, 1, true) and not (read ~= "" and body:find(read, 1, true)) then
            wrong, sample = wrong + 1, body:sub(1, 400)
         end
      end
   end
end

function request()
   local found = requests[at % #requests + 1]
   if type(found) == "table" then
      local method, path, body, etag, key = unpack(found)
      found = format(method, path, (body:gsub("{turn}", tostring(math.floor(at / #requests)))), etag, key)
   end
   if probed then
      at = at + 1
   end
   probed = true -- wrk asks for one before it begins, to look at it
   return found
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format('\n{"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "refused": %d, "timeouts": %d, "broken": %d, "at": %d, "wrong": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000, errors.status, errors.timeout,
      errors.connect + errors.read + errors.write, threads[1]:get("at"), threads[1]:get("wrong")))
   io.write("sample " .. threads[1]:get("sample"):gsub("\n", " ") .. "\n")
end
