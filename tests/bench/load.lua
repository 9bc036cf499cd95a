-- Sends the requests of a file in turn, from a random one on. A line is METHOD, path, body and entity tag, with tabs between; the last two may be empty.
local requests, at = {}, 0

function init(arguments)
   for line in io.lines(arguments[1]) do
      local method, path, body, etag = line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)$")
      wrk.headers["If-None-Match"] = etag ~= "" and etag or nil
      requests[#requests + 1] = wrk.format(method, path, nil, body ~= "" and body or nil)
   end
   math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 1000000)
   at = math.random(#requests)
end

function request()
   at = at % #requests + 1
   return requests[at]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format('\n{"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "refused": %d, "timeouts": %d, "broken": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000, errors.status, errors.timeout,
      errors.connect + errors.read + errors.write))
end
