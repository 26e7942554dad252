# The routes of the load test as a Rack app.
run(lambda do |env|
  body = env['rack.input'].read.to_s
  sleep(env['QUERY_STRING'][/ms=(\d+)/, 1].to_i / 1000.0) if env['PATH_INFO'] == '/slow'
  body = 'hello' unless env['PATH_INFO'] == '/echo'
  [200, { 'content-length' => body.bytesize.to_s }, [body]]
end)
