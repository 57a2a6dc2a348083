exec python3 -I -S -B /work/json_loop.py 40
