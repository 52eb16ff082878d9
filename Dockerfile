# ROS 2 Jazzy with darkseg_ros built in a colcon workspace of its own. This image was never built in this project: its
# machines have no container engine. Build: docker build -t darkseg_ros .
FROM ros:jazzy-ros-base
SHELL ["/bin/bash", "-c"]
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential python3-pip python3-opencv ros-jazzy-vision-msgs \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY . src/darkseg_ros
# NumPy and OpenCV are the system's: ROS's messages are compiled for them.
RUN grep -v -E '^(numpy|opencv-python-headless|ml-dtypes|ros-)' src/darkseg_ros/requirements/constraints.txt > /tmp/constraints.txt \
    && pip install --break-system-packages --no-cache-dir -c /tmp/constraints.txt -r src/darkseg_ros/requirements/runtime.txt
RUN source /opt/ros/jazzy/setup.bash && colcon build --packages-select darkseg_ros
ENTRYPOINT ["/ros_entrypoint.sh"]
CMD ["bash", "-c", "source install/setup.bash && ros2 launch darkseg_ros segmentation.launch.py"]
