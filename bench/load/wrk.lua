-- The request target as it is given, behind `--`: wrk itself sends the path of its URL, and a forward proxy wants the whole URL.
function init(args)
  wrk.path = args[1]
end
